//! The command line: which command, with which settings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigError, Settings, Sources, StoreKind, load};
use crate::{doctor, serve};

/// Tidings: a messaging system that anyone can host.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server.
    Serve(Serve),
    /// Looks at a deployment, running or not, and says what to mend. Ends with 0 if all is well, 1 with warnings, 2 with
    /// faults.
    Doctor(Doctor),
    /// Verifies every invariant of the data on disk and says what is wrong.
    Verify(Common),
    /// Copies the data, as of one moment, into a new directory. The server may go on running.
    Backup(Backup),
    /// Makes a backup ready to be served: clients that saw more than it holds start from a snapshot.
    Restore(Common),
    /// Copies everything into another store, an embedded one or a cluster's, and compares. May be repeated: what came
    /// since is added. First while the servers run; then once more when they are stopped, and all is moved.
    Move(Move),
    /// Talks with people, in the terminal.
    Chat(tidings_terminal::ChatArgs),
    /// Sends one message, and waits until the server has it.
    Send(tidings_terminal::SendArgs),
    /// Prints messages as they come.
    Tail(tidings_terminal::TailArgs),
    /// Forgets the session of an account, here and on the server.
    Logout(tidings_terminal::LogoutArgs),
    /// Makes the keyspace and the tables of a cluster, or brings them up to date. May be repeated.
    Migrate(Common),
    /// Prints every setting with its value and meaning, as a file to begin with.
    Config(Common),
}

#[derive(Clone, Debug, Default, Args)]
struct Common {
    /// A file with settings (TOML).
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    common: Common,
    /// Address and port for clients.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address and port for metrics and health; empty for none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<String>,
    /// What this server of a cluster does, with commas between: gateway, chat.
    #[arg(long, value_name = "ROLES")]
    role: Option<String>,
    /// Where to keep everything: in memory only to measure what the disk costs.
    #[arg(long, value_enum, default_value_t = StoreChoice::Embedded, hide = true)]
    store: StoreChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoreChoice {
    Embedded,
    Memory,
}

#[derive(Debug, Args)]
struct Doctor {
    #[command(flatten)]
    common: Common,
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
    /// A session token, to try what only somebody who is logged in can: event streams through the public address.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TIDINGS_DOCTOR_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// With a token: also waits for a minute, to see that nothing on the way cuts off polls.
    #[arg(long, requires = "token")]
    patient: bool,
}

#[derive(Debug, Args)]
struct Backup {
    #[command(flatten)]
    common: Common,
    /// The directory to make.
    destination: PathBuf,
}

#[derive(Debug, Args)]
struct Move {
    #[command(flatten)]
    common: Common,
    /// The file with the settings of where to (TOML). The tables of a cluster must be there (`tidings migrate`); a data
    /// directory must not, or be empty.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Every server of the cluster that is moved is stopped: this round is the last. (Of a data directory it is known.)
    #[arg(long)]
    stopped: bool,
}

impl Common {
    fn settings(&self, flags: Vec<(&'static str, String)>) -> Result<Settings, ConfigError> {
        load(&self.sources(flags))
    }

    fn sources(&self, mut flags: Vec<(&'static str, String)>) -> Sources {
        flags.extend(self.data.clone().map(|data| ("server.data", data)));
        Sources {
            flags,
            ..Sources::of_process(self.config.clone())
        }
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("tidings: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, String> {
    match cli.command {
        Command::Serve(serve) => {
            let flags = [
                ("server.listen", serve.listen),
                ("server.metrics_listen", serve.metrics_listen),
                ("cluster.roles", serve.role),
            ];
            let flags = flags
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let settings = serve.common.settings(flags).map_err(text)?;
            let in_memory = serve.store == StoreChoice::Memory;
            serve::run(settings, in_memory).map_err(text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor(doctor) => examine(doctor),
        Command::Verify(common) => {
            let settings = common.settings(Vec::new()).map_err(text)?;
            check_embedded(&settings)?;
            verify(Path::new(&settings.server.data))
        }
        Command::Backup(backup) => {
            let settings = backup.common.settings(Vec::new()).map_err(text)?;
            check_embedded(&settings)?;
            let data = Path::new(&settings.server.data);
            println!("{}", serve::backup(data, &backup.destination, &settings)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Move(moving) => {
            let settings = moving.common.settings(Vec::new()).map_err(text)?;
            let is_well = serve::move_to(&settings, &moving.to, moving.stopped)?;
            Ok(if is_well {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Restore(common) => {
            let settings = common.settings(Vec::new()).map_err(text)?;
            check_embedded(&settings)?;
            let data = Path::new(&settings.server.data);
            let generation = tidings_store_embedded::new_generation(data).map_err(text)?;
            println!(
                "{} is ready to be served (generation {generation})",
                data.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Migrate(common) => {
            let settings = common.settings(Vec::new()).map_err(text)?;
            println!("{}", serve::migrate(&settings).map_err(text)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Chat(args) => client(tidings_terminal::chat(args), |_| 1),
        Command::Send(args) => client(tidings_terminal::send(args), |error| error.exit_code()),
        Command::Tail(args) => client(tidings_terminal::tail(args), |_| 1),
        Command::Logout(args) => client(tidings_terminal::logout(args), |_| 1),
        Command::Config(common) => {
            print!(
                "{}",
                common.settings(Vec::new()).map_err(text)?.documented()
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn examine(args: Doctor) -> Result<ExitCode, String> {
    let options = doctor::Options {
        token: args.token,
        is_patient: args.patient,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(text)?;
    let sources = args.common.sources(Vec::new());
    let report = runtime.block_on(doctor::examine(&sources, &options));
    print!(
        "{}",
        if args.json {
            report.json()
        } else {
            report.text()
        }
    );
    Ok(report.exit_code())
}

/// Runs one of the clients. A terminal is in no hurry: one thread does.
fn client<E: std::fmt::Display>(
    running: impl Future<Output = Result<(), E>>,
    exit_code: impl FnOnce(&E) -> u8,
) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(text)?;
    match runtime.block_on(running) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("tidings: {error}");
            Ok(ExitCode::from(exit_code(&error)))
        }
    }
}

/// What looks into a data directory has nothing to look at where there is none.
fn check_embedded(settings: &Settings) -> Result<(), String> {
    match settings.store.kind {
        StoreKind::Embedded => Ok(()),
        StoreKind::Cassandra => Err(
            "store.kind is cassandra: this command is for a data directory. \
            docs/operations/cluster.md says how a cluster is backed up and checked"
                .to_owned(),
        ),
    }
}

fn verify(data: &Path) -> Result<ExitCode, String> {
    let findings = tidings_store_embedded::verify(data).map_err(text)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{}: nothing is wrong", data.display());
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: {} findings", data.display(), findings.len());
    Ok(ExitCode::FAILURE)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_settings() {
        let cli = Cli::try_parse_from(["tidings", "config", "--data", "elsewhere"]).unwrap();
        let Command::Config(common) = cli.command else {
            panic!("{cli:?}");
        };
        let flags = vec![("server.listen", "0.0.0.0:1".to_owned())];
        let settings = common.settings(flags).unwrap();
        assert_eq!(settings.server.data, "elsewhere");
        assert_eq!(settings.server.listen, "0.0.0.0:1");
    }
}
