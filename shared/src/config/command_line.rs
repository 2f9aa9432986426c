//! Parses command line and environment, and writes the one line of an error.

use std::{ffi::OsString, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory, Parser,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::misspelled;

/// Exit code for a bad command line or environment.
pub const EX_USAGE: u8 = 64;

/// Parses command line and environment.
///
/// # Errors
/// The exit code, after the message was printed: 64 for a bad value, 0 for `--help` and `--version`.
pub(crate) fn parse<T: Parser>() -> Result<T, ExitCode> {
    parse_from(std::env::args_os()).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // An error means that stdout is closed.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => usage_error(&one_line::<T>(&error)),
    })
}

/// Settings of the logs, which only a binary has.
const LOG_SETTINGS: [&str; 2] = ["rust_log", "log_format"];

/// Parses the environment, without a command line, for a library: settings of the logs keep their defaults, because its host
/// may use the same variables in another way. The second part says where each value comes from.
///
/// # Errors
/// The bad value, on one line.
pub fn from_env<T: Parser>() -> Result<(T, ArgMatches), String> {
    let command = T::command().mut_args(|argument| {
        if LOG_SETTINGS.contains(&argument.get_id().as_str()) {
            argument.env(Resettable::Reset)
        } else {
            argument
        }
    });
    let matches = command.try_get_matches_from(["environment"]);
    let matches = matches.map_err(|error| one_line::<T>(&error))?;
    let settings = T::from_arg_matches(&matches).map_err(|error| one_line::<T>(&error))?;
    Ok((settings, matches))
}

fn parse_from<T: Parser>(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<T, clap::Error> {
    let mut command = command::<T>();
    let mut matches = command.try_get_matches_from_mut(args)?;
    T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The command line of a binary. The name of a flag's value is the environment variable, so the help shows it only once.
fn command<T: CommandFactory>() -> clap::Command {
    T::command()
        .next_line_help(true)
        .mut_args(|argument| argument.hide_env(true))
}

/// The environment variables of the process that resemble a setting of `T` but are none, each with that setting, on one
/// line. `None` if there are none.
pub(crate) fn misspelled_variables<T: CommandFactory>() -> Option<String> {
    let command = T::command();
    let settings = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str());
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let found = misspelled::find(variables, &settings.collect::<Vec<_>>());
    (!found.is_empty()).then(|| found.join(", "))
}

/// Prints why the process does not start, and returns the exit code.
#[expect(clippy::print_stderr, reason = "the logs start after the configuration is parsed")]
pub(crate) fn usage_error(line: &str) -> ExitCode {
    eprintln!("{line}");
    ExitCode::from(EX_USAGE)
}

fn one_line<T: CommandFactory>(error: &clap::Error) -> String {
    let mut command = command::<T>();
    // Before `build`, arguments do not display their names.
    command.build();
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let mut arguments = command
        .get_arguments()
        .chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
    if let (Some(arg), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue))
        && let Some(argument) = arguments.find(|argument| argument.to_string() == arg)
    {
        let flag = arg.split(' ').next().unwrap_or(arg);
        let variable = argument
            .get_env()
            .map_or_else(|| flag.into(), |name| name.to_string_lossy());
        let allowed = match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
            (Some(source), _) => source.to_string(),
            (None, Some(ContextValue::Strings(valid))) => format!("one of {}", valid.join(", ")),
            _ => "a value".to_owned(),
        };
        return format!("{variable}: {value:?} is not allowed: it must be {allowed}");
    }
    if let Some(line) = unknown_argument(error) {
        return line;
    }
    let rendered = error.to_string();
    let mut lines = rendered.lines().map(str::trim).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or("error: bad command line");
    lines.fold(first.to_owned(), |joined, line| format!("{joined} {line}"))
}

/// The line for a flag or a subcommand that does not exist.
fn unknown_argument(error: &clap::Error) -> Option<String> {
    let (kind, invalid) = match error.kind() {
        ErrorKind::UnknownArgument => ("flag", error.get(ContextKind::InvalidArg)),
        ErrorKind::InvalidSubcommand => ("command", error.get(ContextKind::InvalidSubcommand)),
        _ => return None,
    };
    let Some(ContextValue::String(invalid)) = invalid else {
        return None;
    };
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand];
    let nearest = suggested.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name),
        // From the least to the most similar.
        ContextValue::Strings(names) => names.last(),
        _ => None,
    });
    let kind = if invalid.starts_with('-') { kind } else { "command" };
    Some(match nearest {
        Some(nearest) => format!("{invalid}: no such {kind}: did you mean {nearest}? --help lists all"),
        None => format!("{invalid}: no such {kind}: --help lists all"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Common;

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        common: Common,
    }

    fn usage_line(args: &[&str]) -> String {
        let args = std::iter::once(&"test").chain(args);
        match parse_from::<Settings>(args) {
            Ok(settings) => settings.common.validate().unwrap_err(),
            Err(error) => one_line::<Settings>(&error),
        }
    }

    #[test]
    fn bad_value_is_one_line_with_variable_value_and_what_is_allowed() {
        for (args, expected) in [
            (["--kafka-brokers", "a:1,b"], ["KAFKA_BROKERS", "\"b\"", "host:port"]),
            (["--kafka-brokers", ""], ["KAFKA_BROKERS", "\"\"", "host:port"]),
            (["--kafka-brokers", "a:0"], ["KAFKA_BROKERS", "\"a:0\"", "host:port"]),
            (
                ["--kafka-brokers", "PLAINTEXT://a:1"],
                ["KAFKA_BROKERS", "PLAINTEXT", "host:port"],
            ),
            (["--kafka-brokers", "a:+1"], ["KAFKA_BROKERS", "\"a:+1\"", "host:port"]),
            (["--drain-timeout", "8"], ["DRAIN_TIMEOUT", "\"8\"", "a duration"]),
            (["--drain-timeout", "2h"], ["DRAIN_TIMEOUT", "\"2h\"", "1h at most"]),
            (["--ping-topic", "a b"], ["PING_TOPIC", "\"a b\"", "a topic name"]),
            (["--ping-topic", "pong"], ["PING_TOPIC", "\"pong\"", "different"]),
            (["--log-format", "xml"], ["LOG_FORMAT", "\"xml\"", "text, json"]),
            (["--rust-log", "a=b=c"], ["RUST_LOG", "\"a=b=c\"", "directives"]),
            (["--rust-log", "debgu"], ["RUST_LOG", "\"debgu\"", "warn, info, debug"]),
            (
                ["--kafka-broker", "a:1"],
                ["--kafka-broker:", "--kafka-brokers?", "--help"],
            ),
            (
                ["--kafka-borkers=a:1", ""],
                ["--kafka-borkers:", "--kafka-brokers?", "--help"],
            ),
            (["--pingtopic", "a"], ["--pingtopic:", "--ping-topic?", "--help"]),
            (["--no-such-flag", "1"], ["--no-such-flag:", "no such flag", "--help"]),
            (
                ["no-such-command", ""],
                ["no-such-command:", "no such command", "--help"],
            ),
        ] {
            let line = usage_line(&args);
            assert!(expected.iter().all(|text| line.contains(text)), "{args:?}: {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
