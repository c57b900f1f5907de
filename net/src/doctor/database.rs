//! Checks whether the database for the export accepts the connection.
//!
//! Connects once and changes nothing. `serve` starts without a database that is only down, so that is a
//! warning; what waiting does not solve is a failure. Next: [`stampede_persist::export::database`].

use stampede_persist::export::{ConnectOptions, Database, ExportError};

use super::{Finding, Level};
use crate::settings::Settings;

const CHECK: &str = "postgres";

/// The finding; `None` where no database is configured.
pub fn ask(settings: &Settings) -> Option<Finding> {
    let postgres = settings.postgres()?;
    let options = ConnectOptions::new(postgres.url.reveal());
    let reached = options.target().and_then(|target| Database::connect(&options).map(|_| target));
    Some(finding(reached))
}

fn finding(reached: Result<String, ExportError>) -> Finding {
    let error = match reached {
        Ok(target) => return Finding::ok(CHECK, format!("{target} accepts the connection")),
        Err(error) => error,
    };
    let level = if error.needs_a_hand() { Level::Fail } else { Level::Warn };
    let text = error.to_string();
    // The error text has the problem and the remedy, with `; ` between them.
    let (problem, remedy) = text.split_once("; ").unwrap_or((&text, "check the database"));
    Finding::new(
        level,
        CHECK,
        problem.to_owned(),
        "nothing is exported, and a data directory that was never attached to its database sells nothing",
        format!("To fix it: {remedy}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_of(error: ExportError) -> Level {
        let finding = finding(Err(error));
        assert!(!finding.effect.is_empty() && !finding.remedy.is_empty(), "{finding}");
        finding.level
    }

    #[test]
    fn what_waiting_solves_is_a_warning_and_all_else_a_failure() {
        let (target, reason) = ("h:5432/d".to_owned(), "because".to_owned());
        assert_eq!(finding(Ok(target.clone())).level, Level::Ok);
        let away = ExportError::Unreachable { target: target.clone(), reason: reason.clone() };
        assert_eq!(level_of(away), Level::Warn);
        let starting = ExportError::NotReady { target: target.clone(), reason: reason.clone() };
        assert_eq!(level_of(starting), Level::Warn);
        assert_eq!(level_of(ExportError::PasswordMissing { target: target.clone() }), Level::Fail);
        assert_eq!(level_of(ExportError::LoginRefused { target, reason: reason.clone() }), Level::Fail);
        assert_eq!(level_of(ExportError::Tls(reason.clone())), Level::Fail);
        assert_eq!(level_of(ExportError::LackingRights { reason }), Level::Fail);
    }
}
