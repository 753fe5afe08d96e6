//! `config`: makes, checks, shows and takes over configurations.

use std::path::{Path, PathBuf};

use dbvault_jobs::config::{self, Config, Import, Problem};
use dbvault_jobs::{Error as Job, Result as JobResult};
use serde_json::{Value, json};

use crate::args;
use crate::configuration;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{output, sanitize};

/// Where borgmatic's own configuration usually is.
const BORGMATIC: &str = "/etc/borgmatic/config.yaml";

pub(super) fn run(context: &Context, command: args::Config) -> Result<()> {
    match command {
        args::Config::Generate { destination } => generate(context, destination),
        args::Config::Validate => validate(context),
        args::Config::Show => show(context),
        args::Config::Schema => output::json(&config::schema()),
        args::Config::ImportBorgmatic { source, destination } => import(context, source, destination),
    }
}

fn generate(context: &Context, destination: Option<PathBuf>) -> Result<()> {
    let Some(path) = file_to_make(context, destination)? else { return output::text(config::EXAMPLE) };
    config::write_example(&path)?;
    if context.global.json {
        return output::json(&json!({ "path": path }));
    }
    context.note(&format!("Written: {}. Change it, then run dbvault config validate", path.display()));
    Ok(())
}

/// Where a new configuration is to be written; `None` is standard output.
fn file_to_make(context: &Context, destination: Option<PathBuf>) -> Result<Option<PathBuf>> {
    match destination {
        Some(path) if path == Path::new("-") => Ok(None),
        Some(path) => Ok(Some(path)),
        None => configuration::own_file(&context.global).map(Some),
    }
}

/// What a file says, and what is wrong with it.
struct Checked {
    path: PathBuf,
    config: Config,
    problems: Vec<Problem>,
}

fn check(path: &Path) -> JobResult<Checked> {
    let path = path.to_owned();
    match Config::load(&path) {
        // What is not there would stop a backup.
        Ok(config) => Ok(Checked { path, problems: config.unresolved.clone(), config }),
        Err(Job::Config { problems }) => Ok(Checked { path, config: Config::default(), problems }),
        Err(error) => Err(error),
    }
}

fn validate(context: &Context) -> Result<()> {
    let files = configuration::files(&context.global)?;
    let checked = files.iter().map(|path| check(path)).collect::<JobResult<Vec<_>>>()?;
    let problems: usize = checked.iter().map(|checked| checked.problems.len()).sum();
    if context.global.json {
        output::json(&json!({ "files": checked.iter().map(document).collect::<Value>() }))?;
    } else {
        checked.iter().try_for_each(|checked| tell(context, checked))?;
        if checked.is_empty() {
            context.note("There is no configuration file; dbvault config generate makes an example");
        }
        tell_of_forbidden(context)?;
    }
    match problems {
        0 => Ok(()),
        problems => Err(Error::ConfigurationWrong { problems: problems as u64 }),
    }
}

fn document(checked: &Checked) -> Value {
    let places = |problems: &[Problem]| -> Value {
        let place = |problem: &Problem| {
            json!({
                "file": &*problem.at.file,
                "line": problem.at.line,
                "column": problem.at.column,
                "message": problem.message,
            })
        };
        problems.iter().map(place).collect()
    };
    json!({
        "path": checked.path,
        "problems": places(&checked.problems),
        "warnings": places(&checked.config.warnings),
        "notes": places(&checked.config.notes),
    })
}

/// A line for each finding, as compilers write them.
fn tell(context: &Context, checked: &Checked) -> Result<()> {
    let mut text = String::new();
    let mut add = |word: &str, problems: &[Problem]| {
        for Problem { at, message } in problems {
            text += &sanitize::line(&format!("{at}: {word}: {message}"));
            text.push('\n');
        }
    };
    add("error", &checked.problems);
    add("warning", &checked.config.warnings);
    if !context.global.quiet {
        add("note", &checked.config.notes);
        if checked.problems.is_empty() {
            text += &format!("{}: good\n", sanitize::line(&checked.path.display().to_string()));
        }
    }
    output::text(&text)
}

fn tell_of_forbidden(context: &Context) -> Result<()> {
    if context.global.config.is_empty() {
        for path in config::usual_files()?.forbidden {
            context.warning(&format!("{} is not read: permission denied", path.display()));
        }
    }
    Ok(())
}

fn show(context: &Context) -> Result<()> {
    let configs = context.configs()?;
    if context.global.json {
        let one = |config: &Config| json!({ "files": config.files, "configuration": config.show_json() });
        return output::json(&json!({ "configurations": configs.iter().map(one).collect::<Value>() }));
    }
    for config in configs {
        let files: Vec<String> = config.files.iter().map(|path| path.display().to_string()).collect();
        output::text(&format!("# {}\n{}", sanitize::line(&files.join(", ")), config.show()))?;
    }
    Ok(())
}

fn import(context: &Context, source: Option<PathBuf>, destination: Option<PathBuf>) -> Result<()> {
    let source = source.map_or_else(borgmatic_file, Ok)?;
    let path = file_to_make(context, destination)?;
    let recorded = path.as_deref().and_then(config::recorded);
    let import = config::import(&source, recorded.as_deref())?;
    match &path {
        Some(path) => config::write_over_record(path, &import.text)?,
        None => output::text(&import.text)?,
    }
    let lines = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let Import { taken, without_meaning, to_decide, files, .. } = &import;
    if let (Some(path), true) = (&path, context.global.json) {
        return output::json(&json!({
            "path": path,
            "read": files,
            "taken": taken,
            "without_meaning": lines(without_meaning),
            "to_decide": lines(to_decide),
        }));
    }
    let list = |heading: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            context.note(&format!("{heading}:\n  {}", lines.join("\n  ")));
        }
    };
    list("Taken over", taken.clone());
    list("Left out, without meaning here", lines(without_meaning));
    list("To decide", lines(to_decide));
    if let Some(path) = path {
        context.note(&format!("Written: {}. dbvault config validate checks it", path.display()));
    }
    Ok(())
}

/// That of the machine, or that of this user.
fn borgmatic_file() -> Result<PathBuf> {
    let of_machine = PathBuf::from(BORGMATIC);
    // Where dbvault's own would be, but of another name.
    let own = config::user_file()?;
    let settings = own.parent().and_then(Path::parent);
    let of_user = settings.map(|directory| directory.join("borgmatic/config.yaml"));
    Ok(of_user.filter(|path| path.exists() && !of_machine.exists()).unwrap_or(of_machine))
}
