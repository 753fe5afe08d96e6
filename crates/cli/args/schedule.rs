//! The words of `schedule`.

use clap::{Args, Subcommand};

use super::examples;

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Run actions at a time of every day, or at others
    #[command(after_help = examples::SCHEDULE_INSTALL)]
    Install(ScheduleInstall),
    /// Show what is installed
    #[command(after_help = examples::SCHEDULE_SHOW)]
    Show(ScheduleWhere),
    /// Take away what is installed
    #[command(after_help = examples::SCHEDULE_REMOVE)]
    Remove {
        #[command(flatten)]
        at: ScheduleWhere,
        /// Only tell what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleInstall {
    /// Every day at this time of the machine's zone
    #[arg(long, value_name = "HH:MM", default_value = "02:30", value_parser = time_of_day)]
    pub(crate) daily: (u8, u8),

    /// At this calendar event of systemd: 'Mon..Fri 22:00', hourly
    #[arg(long, value_name = "EVENT", conflicts_with_all = ["daily", "cron", "crontab"])]
    pub(crate) on_calendar: Option<String>,

    /// At these five fields of cron, in the user's crontab: '30 2 * * 1-5'
    #[arg(long, value_name = "FIELDS", conflicts_with_all = ["daily", "system", "user"])]
    pub(crate) cron: Option<String>,

    /// What to run, an action with its options; may be given several times, in this order until one fails; by
    /// default backup
    #[arg(long, value_name = "ACTION")]
    pub(crate) run: Vec<String>,

    /// Only print what would be installed
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) at: ScheduleWhere,
}

/// Where it is installed; by default systemd's units of the system for root, those of the user for others, and the
/// crontab where systemd does not run.
#[derive(Debug, Args)]
pub(crate) struct ScheduleWhere {
    /// In the units of the system
    #[arg(long, conflicts_with_all = ["user", "crontab"])]
    pub(crate) system: bool,

    /// In the units of the user
    #[arg(long, conflicts_with = "crontab")]
    pub(crate) user: bool,

    /// In the user's crontab
    #[arg(long)]
    pub(crate) crontab: bool,
}

/// `02:30`
fn time_of_day(text: &str) -> Result<(u8, u8), String> {
    let wrong = || "not a time like 02:30".to_owned();
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str, end: u8| text.parse().ok().filter(|number| *number < end).ok_or_else(wrong);
    Ok((number(hour, 24)?, number(minute, 60)?))
}
