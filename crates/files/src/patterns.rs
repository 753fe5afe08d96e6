//! Patterns that choose files: Borg's styles and lists, and lists as gitignore has them.
//!
//! Paths are matched as bytes, relative to `/`, without a slash before them. What several patterns say is decided by
//! groups: each option is a group of its own and the first group that knows the path decides.
//!
//! - A pattern or a list of `+`, `-` and `!` lines: the first that matches decides, as in Borg.
//! - A list to exclude from: the last line that matches decides, as in gitignore, so that a line with `!` takes back what
//!   lines before it exclude.

use std::collections::VecDeque;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Error, Result};
use crate::glob::{Stars, to_regex};

/// Largest compiled pattern, bytes.
const PATTERN_BYTES_MAX: usize = 4 << 20;

/// How a pattern is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `fm:` shell pattern whose stars cross slashes. Matches what is below what it matches, too; with a slash at the
    /// end only that.
    Fnmatch,
    /// `sh:` shell pattern whose stars stay within a name, `**/` is any number of directories. Below and slash as `fm:`.
    Shell,
    /// `re:` regular expression that is found anywhere in the path.
    Regex,
    /// `pp:` a path, and all that is below it.
    PathPrefix,
    /// `pf:` exactly a path.
    PathFull,
}

/// What patterns say of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Take,
    /// It is left out, and a directory is not looked into.
    Skip,
    /// It is left out, but something below it may be taken.
    SkipAndLook,
}

#[derive(Clone, Debug)]
struct Rule {
    matcher: Matcher,
    verdict: Verdict,
}

#[derive(Clone, Debug)]
enum Group {
    FirstDecides(Vec<Rule>),
    LastDecides(Vec<Rule>),
}

#[derive(Clone, Debug)]
enum Matcher {
    Regex(Regex),
    /// To be matched against the path with a slash behind it.
    RegexWithSlash(Regex),
    /// A path without slashes at its ends; empty: all.
    Prefix(Vec<u8>),
    Full(Vec<u8>),
}

/// Patterns that choose files; without any, all are taken.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    groups: Vec<Group>,
    /// Whether any rule takes something that another could leave out: then excluded directories are looked into.
    has_includes: bool,
    only_included: bool,
    roots: Vec<String>,
}

impl Patterns {
    /// None: all files are taken.
    pub fn new() -> Self {
        Patterns::default()
    }

    /// `--exclude`: leaves out what matches, `fm:` where the pattern names no style. A directory that is left out is looked
    /// into only where a `+` line could take something in it.
    ///
    /// # Errors
    /// A bad pattern; nothing is added.
    pub fn exclude(&mut self, pattern: &str) -> Result<()> {
        let matcher = parse("--exclude", pattern, Style::Fnmatch)?;
        self.add(Rule { matcher, verdict: Verdict::SkipAndLook });
        Ok(())
    }

    /// `--exclude-from`: a pattern a line; empty lines and those that begin with `#` say nothing. `!` before a pattern
    /// takes files back that lines before it exclude, but nothing below an excluded directory. A pattern without a style and
    /// without a slash, but for one at its end, is the name of a file in any directory, as in gitignore; with a slash it
    /// is `fm:`, from `/`, as in Borg. A slash at the end leaves the directory itself. `\#` and `\!` begin a name with these characters. `name` is for messages.
    ///
    /// # Errors
    /// A bad pattern, with its line; nothing is added.
    pub fn exclude_from(&mut self, name: &str, text: &str) -> Result<()> {
        let mut rules = Vec::new();
        for (place, line) in lines(name, text) {
            let (verdict, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (Verdict::Take, pattern.trim_start()),
                None => (Verdict::Skip, line),
            };
            let matcher = parse_ignore_line(&place, pattern)?;
            rules.push(Rule { matcher, verdict });
        }
        self.groups.push(Group::LastDecides(rules));
        Ok(())
    }

    /// `--pattern`: `+ PATTERN` takes, `- PATTERN` leaves out, `! PATTERN` leaves out and does not look below, `R PATH` is
    /// a root. The style is `sh:` where the pattern names none.
    ///
    /// # Errors
    /// A bad pattern; nothing is added.
    pub fn pattern(&mut self, line: &str) -> Result<()> {
        self.pattern_line("--pattern", line.trim(), &mut Style::Shell)
    }

    /// `--patterns-from`: lines as [`Self::pattern`] takes them; `P sh` sets the style for the lines behind it. Empty lines
    /// and those that begin with `#` say nothing. `name` is for messages.
    ///
    /// # Errors
    /// A bad line; those before it are added.
    pub fn patterns_from(&mut self, name: &str, text: &str) -> Result<()> {
        let mut style = Style::Shell;
        lines(name, text).try_for_each(|(place, line)| self.pattern_line(&place, line, &mut style))
    }

    /// Paths of an archive: only what they match is taken, after all other patterns. `pp:` where a path names no style.
    ///
    /// # Errors
    /// A bad pattern; those before it are added.
    pub fn only<'a>(&mut self, paths: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for path in paths {
            let matcher = parse("PATH", path, Style::PathPrefix)?;
            self.only_included = true;
            self.has_includes = true;
            self.add(Rule { matcher, verdict: Verdict::Take });
        }
        Ok(())
    }

    /// Paths that `R` lines named, as they were given.
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// What the patterns say of a path: relative to `/`, without a slash at either end.
    pub fn verdict(&self, path: &[u8]) -> Verdict {
        let with_slash = if self.groups.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let verdict = self.groups.iter().find_map(|group| {
            let hit = |rule: &&Rule| rule.matcher.matches(path, &with_slash);
            match group {
                Group::FirstDecides(rules) => rules.iter().find(hit),
                Group::LastDecides(rules) => rules.iter().rev().find(hit),
            }
        });
        match verdict.map(|rule| rule.verdict) {
            Some(verdict) => verdict,
            None if self.only_included => Verdict::SkipAndLook,
            None => Verdict::Take,
        }
    }

    /// Whether a file is taken.
    pub fn takes(&self, path: &[u8]) -> bool {
        self.verdict(path) == Verdict::Take
    }

    fn add(&mut self, rule: Rule) {
        match self.groups.last_mut() {
            Some(Group::FirstDecides(rules)) => rules.push(rule),
            _ => self.groups.push(Group::FirstDecides(vec![rule])),
        }
    }

    fn pattern_line(&mut self, place: &str, line: &str, style: &mut Style) -> Result<()> {
        let command = line.chars().next().unwrap_or(' ');
        let rest = line[command.len_utf8()..].trim_start();
        let bad = |why: &str| Err(bad(place, line, why));
        if rest.is_empty() {
            return bad("a line is +, -, !, R or P, and then a pattern, a path or a style");
        }
        let verdict = match command {
            '+' => Verdict::Take,
            '-' => Verdict::SkipAndLook,
            '!' => Verdict::Skip,
            'R' | 'r' => {
                self.roots.push(rest.to_owned());
                return Ok(());
            }
            'P' | 'p' => match style_of(rest.trim_end_matches(':')) {
                Some(found) => {
                    *style = found;
                    return Ok(());
                }
                None => return bad("the styles are fm, sh, re, pp and pf"),
            },
            _ => return bad("a line begins with +, -, !, R or P"),
        };
        let matcher = parse(place, rest, *style)?;
        self.has_includes |= verdict == Verdict::Take;
        self.add(Rule { matcher, verdict });
        Ok(())
    }

    /// Whether a directory that is left out is to be looked into: only where something below it may be taken.
    pub fn looks_into(&self, verdict: Verdict) -> bool {
        verdict == Verdict::SkipAndLook && self.has_includes
    }
}

/// The lines of a list that say something, without blanks at their ends, and where they are.
fn lines<'a>(name: &'a str, text: &'a str) -> impl Iterator<Item = (String, &'a str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = text.lines().map(str::trim).enumerate();
    numbered
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(move |(index, line)| (format!("{name}:{}", index + 1), line))
}

fn bad(place: &str, pattern: &str, why: impl Into<String>) -> Error {
    Error::Pattern { place: place.to_owned(), pattern: pattern.to_owned(), why: why.into() }
}

fn style_of(word: &str) -> Option<Style> {
    match word {
        "fm" => Some(Style::Fnmatch),
        "sh" => Some(Style::Shell),
        "re" => Some(Style::Regex),
        "pp" => Some(Style::PathPrefix),
        "pf" => Some(Style::PathFull),
        _ => None,
    }
}

/// The style that a pattern names, and the rest; two letters and a colon that are none are an error.
fn split_style<'a>(place: &str, pattern: &'a str) -> Result<(Option<Style>, &'a str)> {
    let is_style = |word: &str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match pattern.split_once(':') {
        Some((word, rest)) if is_style(word) => match style_of(word) {
            Some(style) => Ok((Some(style), rest)),
            None => Err(bad(place, pattern, "the styles are fm, sh, re, pp and pf")),
        },
        _ => Ok((None, pattern)),
    }
}

fn parse(place: &str, pattern: &str, default: Style) -> Result<Matcher> {
    let (style, body) = split_style(place, pattern)?;
    if body.is_empty() {
        return Err(bad(place, pattern, "it is empty"));
    }
    let is_content_only = body.ends_with('/');
    match style.unwrap_or(default) {
        Style::PathPrefix => Ok(Matcher::Prefix(normalized(body).into_bytes())),
        Style::PathFull => Ok(Matcher::Full(normalized(body).into_bytes())),
        Style::Regex => Ok(Matcher::Regex(compile(place, pattern, body)?)),
        Style::Fnmatch => {
            let tail = if is_content_only { "/*/" } else { "/*" };
            glob(place, pattern, &normalized(body), tail, Stars::CrossSlashes)
        }
        Style::Shell => {
            let tail = if is_content_only { "/**/*/" } else { "/**/*" };
            glob(place, pattern, &normalized(body), tail, Stars::StayInName)
        }
    }
}

fn parse_ignore_line(place: &str, pattern: &str) -> Result<Matcher> {
    let (style, _) = split_style(place, pattern)?;
    let is_escaped = pattern.starts_with("\\#") || pattern.starts_with("\\!");
    let pattern = if is_escaped { &pattern[1..] } else { pattern };
    let name = pattern.trim_end_matches('/');
    if style.is_some() && !is_escaped || name.contains('/') || name.is_empty() {
        return parse(place, pattern, Style::Fnmatch);
    }
    let tail = if pattern.ends_with('/') { "/**/*/" } else { "/**/*" };
    glob(place, pattern, &format!("**/{name}"), tail, Stars::StayInName)
}

fn glob(place: &str, pattern: &str, body: &str, tail: &str, stars: Stars) -> Result<Matcher> {
    let whole = format!("{body}{tail}");
    let expression = to_regex(whole.trim_start_matches('/'), stars);
    Ok(Matcher::RegexWithSlash(compile(place, pattern, &format!(r"\A(?:{expression})\z"))?))
}

fn compile(place: &str, pattern: &str, expression: &str) -> Result<Regex> {
    let mut builder = RegexBuilder::new(expression);
    builder.size_limit(PATTERN_BYTES_MAX).build().map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        bad(place, pattern, why)
    })
}

/// A path without empty and `.` components, with `..` taken back, and without slashes at its ends.
fn normalized(path: &str) -> String {
    let mut components = VecDeque::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if components.back().is_some_and(|last| *last != "..") => drop(components.pop_back()),
            ".." if path.starts_with('/') => {}
            other => components.push_back(other),
        }
    }
    components.make_contiguous().join("/")
}

impl Matcher {
    fn matches(&self, path: &[u8], with_slash: &[u8]) -> bool {
        match self {
            Matcher::Regex(regex) => regex.is_match(path),
            Matcher::RegexWithSlash(regex) => regex.is_match(with_slash),
            Matcher::Prefix(prefix) => {
                prefix.is_empty()
                    || path
                        .strip_prefix(prefix.as_slice())
                        .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
            }
            Matcher::Full(full) => path == full,
        }
    }
}
