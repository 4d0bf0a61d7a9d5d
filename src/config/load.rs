//! Reading a configuration file.

use std::io::{self, Read};
use std::path::{Path, PathBuf, absolute};

use thiserror::Error;

use super::executor::read_executor;
use super::problem::{Findings, Problem};
use super::reader::{Reader, Section};
use super::sections::{read_agent, read_outputs, read_paths, read_server};
use super::{AgentConfig, Config, Environment, VariableKeys};
use crate::data_dir::DataDir;
use crate::os::platform::{Untrusted, Why};
use crate::os::timeout::with_timeout;
use crate::os::trust;
use crate::shell::{agent_command, shell_line};
use crate::text::escape;

/// Why there is no [`Config`].
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("there is no configuration file `{}`; make one with `{}`", .0.display(), agent_command(.0, &["init"]))]
    Missing(PathBuf),
    #[error("the configuration file `{}` can't be read: {}{}", .0.display(), .1, account_to_use(.0, .1))]
    Unreadable(PathBuf, io::Error),
    /// Another user could change what it says.
    #[error(
        "the configuration file `{}` isn't safe from other users: {}; `init` in such a place writes a new one",
        .0.display(), .1
    )]
    Untrusted(PathBuf, Untrusted),
    /// Another user could change the authorities that are trusted.
    #[error("what {0} names isn't safe from other users, who could trust an authority of theirs: {1}")]
    UntrustedAuthorities(&'static str, Untrusted),
    /// The file has one or more mistakes; one a line.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Problem>),
}

/// Which account to use where this user may not read the file.
fn account_to_use(file: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    match trust::account_of(file) {
        Some(account) => {
            let sudo = shell_line(["sudo", "-u", &account]);
            format!("; it is in the place of the user {}: put `{sudo}` before this command", escape(&account))
        }
        None => String::new(),
    }
}

/// Reads `[agent]`.
type ReadAgent = fn(Section<'_>, &mut Findings) -> AgentConfig;

impl Config {
    /// Reads and checks a file. Doesn't read anything else from the disk.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::load_with(file, read_agent)
    }

    /// The same for a file whose registration is about to be replaced: mistakes in the old one don't matter.
    pub fn load_to_register(file: &Path) -> Result<Self, ConfigError> {
        Self::load_with(file, |section, _| AgentConfig {
            credentials: None,
            ..read_agent(section, &mut Findings::default())
        })
    }

    /// For commands that only show what is in the data_dir: a file with mistakes elsewhere can be used, with the default in
    /// the place of each wrong value. Also returns the mistakes.
    pub fn load_to_look(file: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        let wrong = match Self::load(file) {
            Err(ConfigError::Wrong(problems)) => problems,
            loaded => return loaded.map(|config| (config, Vec::new())),
        };
        let (file, text) = read_text(file)?;
        let (found, _) = Self::read(&file, &text, read_agent).map_err(ConfigError::Wrong)?;
        let Some(mut config) = found else { return Err(ConfigError::Wrong(wrong)) };
        config.add_environment();
        Ok((config, wrong))
    }

    fn load_with(file: &Path, read_agent: ReadAgent) -> Result<Self, ConfigError> {
        let (file, text) = read_text(file)?;
        let mut config = Self::parse_with(&file, &text, read_agent)?;
        config.add_environment();
        check_certificates(&config.server.environment)?;
        Ok(config)
    }

    /// Adds the variables of this process, but for those in whose place the file has keys.
    fn add_environment(&mut self) {
        let docker_host = self.executor.docker_host.clone();
        let keys = VariableKeys { docker_host, ..self.server.environment.keys.clone() };
        self.server.environment = Environment::from_process().with_keys(keys);
    }

    /// The data_dir of a file, which may be wrong in other places.
    pub fn data_dir_of(file: &Path) -> Option<DataDir> {
        let file = absolute(file).ok()?;
        let text = String::from_utf8(read(&file).ok()??).ok()?;
        let reader = Reader::parse(&file, &text).ok()?;
        let mut findings = Findings::default();
        read_paths(reader.root().section("paths"), &file, &[], &mut findings).map(|paths| paths.data_dir)
    }

    /// Checks the text of a file whose absolute path is `file`. The environment counts as empty.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_with(file, text, read_agent)
    }

    fn parse_with(file: &Path, text: &str, read_agent: ReadAgent) -> Result<Self, ConfigError> {
        match Self::read(file, text, read_agent).map_err(ConfigError::Wrong)? {
            (Some(config), findings) if findings.errors.is_empty() => {
                Ok(Self { warnings: findings.warnings, ..config })
            }
            (_, findings) => Err(ConfigError::Wrong(findings.in_order())),
        }
    }

    /// What the file says, if it has the values without which there is no configuration, and its mistakes.
    fn read(file: &Path, text: &str, read_agent: ReadAgent) -> Result<(Option<Self>, Findings), Vec<Problem>> {
        let reader = Reader::parse(file, text)?;
        let mut findings = Findings::default();
        let mut root = reader.root();
        let server = read_server(root.section("server"), file, &mut findings);
        let agent = read_agent(root.section("agent"), &mut findings);
        let executor = read_executor(root.section("executor"), file, &mut findings);
        let paths = read_paths(root.section("paths"), file, &executor.options.docker_args.sources, &mut findings);
        let outputs = read_outputs(root.section("outputs"), &mut findings);
        root.finish(&mut findings);
        let whole = server.zip(paths).map(|(server, paths)| Self {
            file: file.to_owned(),
            server,
            agent,
            executor,
            paths,
            outputs,
            warnings: Vec::new(),
        });
        Ok((whole, findings))
    }
}

/// The absolute path of a file, and its text.
fn read_text(file: &Path) -> Result<(PathBuf, String), ConfigError> {
    let file = absolute(file).map_err(|error| ConfigError::Unreadable(file.to_owned(), error))?;
    let Some(bytes) = read(&file)? else { return Err(ConfigError::Missing(file)) };
    let text = String::from_utf8(bytes).map_err(|error| {
        let message = "the file isn't UTF-8 from here on; save it as UTF-8";
        let at = error.utf8_error().valid_up_to();
        ConfigError::Wrong(vec![Problem::at(&file, error.as_bytes(), at, message)])
    })?;
    Ok((file, text))
}

/// Checks what authorities are read from: one of another user's could speak for the Server.
fn check_certificates(environment: &Environment) -> Result<(), ConfigError> {
    let wrong = |variable| move |why| ConfigError::UntrustedAuthorities(variable, why);
    if let Some(file) = environment.ssl_cert_file.clone() {
        check_in_time(move || trust::check_file(&file)).map_err(wrong(environment.cert_file_source()))?;
    }
    environment.ssl_cert_dirs.iter().cloned().try_for_each(|folder| {
        check_in_time(move || trust::check_settings(&folder, &["."])).map_err(wrong("SSL_CERT_DIR"))
    })
}

/// What this user or a disk doesn't let be read can't be trusted either, and is named where it is needed.
fn check_in_time(check: impl FnOnce() -> Result<(), Untrusted> + Send + 'static) -> Result<(), Untrusted> {
    match with_timeout(check) {
        Some(Err(wrong)) if !matches!(wrong.why, Why::Unreadable(_)) || wrong.is_shortage() => Err(wrong),
        _ => Ok(()),
    }
}

/// The bytes of a file that only root and this user can change: it names programs that are executed.
fn read(file: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    let opened = trust::open_file(file).map_err(|wrong| match wrong {
        Untrusted { why: Why::Unreadable(error), .. } => ConfigError::Unreadable(file.to_owned(), error),
        wrong => ConfigError::Untrusted(file.to_owned(), wrong),
    })?;
    let Some(mut opened) = opened else { return Ok(None) };
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes).map_err(|error| ConfigError::Unreadable(file.to_owned(), error))?;
    Ok(Some(bytes))
}
