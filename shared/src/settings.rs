//! Settings of a program, read from its command line and from environment variables, in the same way in all programs.
//!
//! A flag on the command line takes precedence over its variable. White space around a value is removed, because a file
//! that a secret was read from often ends with a new line. An empty variable counts as unset. A variable of a flag
//! without a value is a boolean: 1, true, yes, on, or 0, false, no, off, in upper or lower case. An error about a
//! variable names it.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{
    Arg, ArgAction, ArgMatches, Command, Error, Parser,
    builder::{BoolishValueParser, Resettable, TypedValueParser as _},
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

/// Reads the settings of this process. If one of them is wrong, or for `--help`, it prints a text and exits.
pub fn parse<P: Parser>() -> P {
    try_parse_from(env::args_os(), |name| env::var_os(name)).unwrap_or_else(|error| error.exit())
}

/// Reads settings from `args`, whose first is the program's name, and from `variable`, which returns the value of a
/// variable.
///
/// # Errors
/// clap's errors; one about a variable names it.
pub fn try_parse_from<P: Parser>(
    args: impl IntoIterator<Item: Into<OsString>>,
    variable: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<P, Error> {
    let args: Vec<OsString> = args.into_iter().map(|word| trim_word(&word.into())).collect();
    // clap's own reading of variables is turned off; they are added as words of the command line.
    let command = P::command().mut_args(|arg| arg.env(Resettable::Reset));
    let given = match command.clone().mut_args(|arg| arg.required(false)).try_get_matches_from(&args) {
        Ok(given) => given,
        // From the whole command, so that the text of --help shows the variables.
        Err(error) => return Err(P::command().try_get_matches_from(&args).err().unwrap_or(error)),
    };
    let mut from_variables = Vec::new();
    // Built, because otherwise its arguments have no text.
    let mut built = P::command();
    built.build();
    let mut words: Vec<OsString> = args.iter().take(1).cloned().collect();
    for arg in built.get_arguments() {
        let Some(name) = arg.get_env().filter(|_| !is_given(&given, arg)) else { continue };
        let Some(value) = variable(name).map(|value| trim_list(&value, arg)).filter(|value| !value.is_empty()) else {
            continue;
        };
        words.extend(word(arg, &value).map_err(|error| name_variables(error.with_cmd(&command), &[arg]))?);
        from_variables.push(arg.clone());
    }
    words.extend(args.into_iter().skip(1));
    let named = |error| name_variables(error, &from_variables.iter().collect::<Vec<_>>());
    let mut matches = command.clone().try_get_matches_from(words).map_err(named)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| named(error.with_cmd(&command)))
}

/// Whether the command line has the flag, before or after a subcommand.
fn is_given(matches: &ArgMatches, arg: &Arg) -> bool {
    let id = arg.get_id();
    let here =
        matches.ids().any(|other| other == id) && matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    here || matches.subcommand().is_some_and(|(_, matches)| is_given(matches, arg))
}

/// Converts a variable's value to a word of the command line; `None` if the value of a boolean is false.
fn word(arg: &Arg, value: &OsStr) -> Result<Option<OsString>, Error> {
    let mut word = OsString::from("--");
    word.push(arg.get_long().unwrap_or(arg.get_id().as_str()));
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        if let Ok(yes) = BoolishValueParser::new().parse_ref(&Command::new(""), Some(arg), value) {
            return Ok(yes.then_some(word));
        }
        let accepted = ["1", "true", "yes", "on", "0", "false", "no", "off"].map(str::to_owned);
        let mut error = Error::new(ErrorKind::InvalidValue);
        error.insert(ContextKind::InvalidArg, ContextValue::String(arg.to_string()));
        error.insert(ContextKind::InvalidValue, ContextValue::String(value.to_string_lossy().into_owned()));
        error.insert(ContextKind::ValidValue, ContextValue::Strings(accepted.to_vec()));
        return Err(error);
    }
    word.push("=");
    word.push(value);
    Ok(Some(word))
}

/// Adds the variable's name to the flag in an error, and removes a value that must not be shown.
fn name_variables(mut error: Error, from_variables: &[&Arg]) -> Error {
    let Some(ContextValue::String(about)) = error.get(ContextKind::InvalidArg).cloned() else { return error };
    let Some(arg) = from_variables.iter().find(|arg| arg.to_string() == about) else { return error };
    let name = arg.get_env().unwrap_or_default().to_string_lossy();
    error.insert(ContextKind::InvalidArg, ContextValue::String(format!("{about} ({name})")));
    if arg.is_hide_env_values_set() && error.get(ContextKind::InvalidValue).is_some() {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    error
}

/// Removes white space around a word of the command line, and around the value in `--flag=value`.
fn trim_word(word: &OsStr) -> OsString {
    let Some(text) = word.to_str().map(str::trim) else { return word.to_owned() };
    match text.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => format!("{flag}={}", value.trim()).into(),
        _ => text.into(),
    }
}

/// Removes white space around a value; for a list, around each item, and empty items.
fn trim_list(value: &OsStr, arg: &Arg) -> OsString {
    let Some(text) = value.to_str().map(str::trim) else { return value.to_owned() };
    let Some(delimiter) = arg.get_value_delimiter() else { return text.into() };
    let items: Vec<&str> = text.split(delimiter).map(str::trim).filter(|item| !item.is_empty()).collect();
    items.join(delimiter.encode_utf8(&mut [0; 4])).into()
}

/// Test helper: panics if a program reads one of its variables in another way than this module describes, or has a flag
/// without a variable that is not in `no_variable`. `args` are the words without which the program does not start.
pub fn assert_variables_are_read_alike<P: Parser + std::fmt::Debug>(args: &[&str], no_variable: &[&str]) {
    // The first value that a flag accepts is used for it.
    const EXAMPLES: [&str; 9] =
        ["7", "10000000", "7s", "7m", "127.0.0.1:7", "http://a.example:7", "postgres://a/b", "info", "json"];
    let command = P::command();
    let read = |name: &OsStr, value: &str, args: &[&str]| {
        let words = [command.get_name()].into_iter().chain(args.iter().copied());
        let read: Result<P, Error> = try_parse_from(words, |asked| (asked == name).then(|| OsString::from(value)));
        read.map(|settings| format!("{settings:?}")).map_err(|error| error.to_string())
    };
    let unset = read(OsStr::new(""), "", args);
    assert!(unset.is_ok(), "{unset:?}");
    for subcommand in command.get_subcommands() {
        let own = subcommand.get_arguments().find(|arg| arg.get_env().is_some());
        assert!(own.is_none(), "variables belong to the program, not to {}", subcommand.get_name());
    }
    for arg in command.get_arguments() {
        let flag = format!("--{}", arg.get_long().unwrap_or(arg.get_id().as_str()));
        let Some(name) = arg.get_env() else {
            assert!(no_variable.contains(&flag.as_str()), "{flag} has no environment variable");
            continue;
        };
        let shown = name.to_string_lossy();
        assert_eq!(shown, format!("JOBQUEUE_{}", flag[2..].replace('-', "_").to_uppercase()));
        // A flag that is given takes precedence over its variable, so a required one is left out while its variable is
        // tried.
        let position = args.iter().position(|word| *word == flag);
        let without: Vec<&str> = args
            .iter()
            .enumerate()
            .filter(|(index, _)| position.is_none_or(|at| *index != at && *index != at + 1))
            .map(|(_, word)| *word)
            .collect();
        for empty in ["", " ", "\n"] {
            assert_eq!(read(name, empty, args), unset, "{shown} set to {empty:?} is unset");
            if position.is_some() {
                assert!(read(name, empty, &without).is_err_and(|error| error.contains(&flag)), "{shown} {empty:?}");
            }
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            let set: Vec<&str> = without.iter().copied().chain([flag.as_str()]).collect();
            let set = read(OsStr::new(""), "", &set);
            for yes in ["1", "true", "TRUE", "yes", "Yes", "on", "ON", " true\n"] {
                assert_eq!(read(name, yes, &without), set, "{shown}={yes:?}");
            }
            for no in ["0", "false", "FALSE", "no", "No", "off", "OFF", "0\n"] {
                assert_eq!(read(name, no, args), unset, "{shown}={no:?}");
            }
            let error = read(name, "maybe", &without).err().unwrap_or_default();
            assert!(error.contains(&*shown) && error.contains("maybe") && error.contains("yes"), "{shown}: {error}");
            continue;
        }
        let values = arg.get_possible_values();
        let values = values.iter().map(clap::builder::PossibleValue::get_name).chain(EXAMPLES);
        let taken = values.map(|value| (value, read(name, value, &without))).find(|(_, read)| read.is_ok());
        assert!(taken.is_some(), "{shown}: no example is a value of it");
        let Some((value, plain)) = taken else { continue };
        for padded in [format!("{value}\n"), format!(" {value}\r\n")] {
            assert_eq!(read(name, &padded, &without), plain, "{shown}={padded:?}");
            let on_the_line: Vec<&str> = without.iter().copied().chain([flag.as_str(), &padded]).collect();
            assert_eq!(read(OsStr::new(""), "", &on_the_line), plain, "{flag} {padded:?}");
            let joined = format!("{flag}={padded}");
            let joined: Vec<&str> = without.iter().copied().chain([joined.as_str()]).collect();
            assert_eq!(read(name, "\u{1}", &joined), plain, "{joined:?} wins over {shown}");
        }
        if let Err(error) = read(name, "\u{1}=", &without) {
            assert!(error.contains(&*shown), "{shown}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "program")]
    struct Settings {
        #[arg(long, global = true, env = "JOBQUEUE_URL", hide_env_values = true, value_parser = no_colon)]
        url: Option<String>,
        #[arg(long, env = "JOBQUEUE_COUNT", default_value_t = 3)]
        count: u32,
        #[arg(long, env = "JOBQUEUE_OPEN", conflicts_with = "count")]
        open: bool,
        #[arg(long, env = "JOBQUEUE_NAME", value_delimiter = ',')]
        name: Vec<String>,
        #[command(subcommand)]
        command: Option<Sub>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Check,
    }

    fn no_colon(text: &str) -> Result<String, String> {
        if text.contains(';') { Err("it holds a semicolon".to_owned()) } else { Ok(text.to_owned()) }
    }

    fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let value = |name: &OsStr| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        let words = ["program"].iter().chain(args);
        try_parse_from(words, value).map_err(|error| error.to_string())
    }

    #[test]
    fn every_variable_of_a_program_is_read_as_documented() {
        assert_variables_are_read_alike::<Settings>(&[], &[]);
    }

    #[test]
    fn a_flag_wins_over_its_variable_before_and_after_a_subcommand() {
        let variables = [("JOBQUEUE_URL", "from-variable"), ("JOBQUEUE_COUNT", "8")];
        for args in [["--url", "from-flag", "check"], ["check", "--url", "from-flag"]] {
            let settings = read(&args, &variables).unwrap();
            assert_eq!((settings.url.as_deref(), settings.count), (Some("from-flag"), 8));
        }
        assert_eq!(read(&["check"], &variables).unwrap().url.as_deref(), Some("from-variable"));
    }

    #[test]
    fn items_of_a_list_are_trimmed_and_empty_ones_dropped() {
        assert_eq!(read(&[], &[("JOBQUEUE_NAME", "a, b ,\n")]).unwrap().name, ["a", "b"]);
        assert!(read(&[], &[("JOBQUEUE_NAME", " , ")]).unwrap().name.is_empty());
    }

    #[test]
    fn an_error_names_the_variable_and_keeps_a_secret() {
        let error = read(&[], &[("JOBQUEUE_COUNT", "many")]).unwrap_err();
        assert!(error.contains("'many' for '--count <COUNT> (JOBQUEUE_COUNT)'"), "{error}");
        let error = read(&["--count", "many"], &[]).unwrap_err();
        assert!(!error.contains("JOBQUEUE_COUNT"), "{error}");
        let error = read(&[], &[("JOBQUEUE_URL", "secret;")]).unwrap_err();
        assert!(error.contains("JOBQUEUE_URL") && !error.contains("secret"), "{error}");
        let error = read(&[], &[("JOBQUEUE_OPEN", "yes"), ("JOBQUEUE_COUNT", "1")]).unwrap_err();
        assert!(error.contains("JOBQUEUE_OPEN") || error.contains("JOBQUEUE_COUNT"), "{error}");
    }

    #[test]
    fn help_shows_the_variables() {
        let help = read(&["--help"], &[("JOBQUEUE_COUNT", "many")]).unwrap_err();
        assert!(help.contains("[env: JOBQUEUE_COUNT=") && help.contains("JOBQUEUE_URL"), "{help}");
    }
}
