//! The `centripetal` command: train, collapse, cut and certify convolutional networks.

mod args;
mod cache;
mod command_line;
mod commands;
mod data;
mod driver_words;
mod files;
mod filters;
mod html;
mod metrics;
mod pipelines;
mod prefetch;
mod progress;
mod run;
mod run_folder;
mod stop;
mod tuning;

use std::panic;
use std::process::ExitCode;

use crate::commands::Outcome;

fn main() -> ExitCode {
    let cli = args::parse();
    panic::set_hook(Box::new(|info| {
        let what = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        eprintln!("error: a fault in centripetal{place}: {}. Please report it", one_line(what));
    }));
    match panic::catch_unwind(|| stop::install(cli.common.quiet).and_then(|()| commands::run(cli))) {
        Ok(Ok(Outcome::Done(()))) => ExitCode::SUCCESS,
        Ok(Ok(Outcome::Interrupted)) => ExitCode::from(stop::INTERRUPTED),
        Ok(Err(error)) => {
            eprintln!("error: {}", one_line(&error.to_string()));
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Messages of parsers and drivers may have several lines; ours have one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
