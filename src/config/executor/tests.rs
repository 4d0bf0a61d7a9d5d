use crate::config::container_options::{ContainerOptions, Isolation, Pull};
use crate::config::{Config, ConfigError, ExecutorConfig};
use std::path::Path;

fn parse(executor: &str) -> Result<Config, ConfigError> {
    let text = format!("[server]\nbase_url = \"http://h\"\n[executor]\n{executor}\n");
    Config::parse(Path::new("/c.toml"), &text)
}

fn executor(text: &str) -> ExecutorConfig {
    let config = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(config.warnings.is_empty(), "{text}: {:?}", config.warnings);
    config.executor
}

fn options(text: &str) -> ContainerOptions {
    executor(text).options
}

/// The one thing that is wrong, without the file's name.
fn wrong(text: &str) -> String {
    let error = parse(text).expect_err(text);
    let ConfigError::Wrong(problems) = &error else { panic!("{text}: {error}") };
    assert_eq!(problems.len(), 1, "{text}: {error}");
    problems[0].to_string().trim_start_matches("/c.toml:").to_owned()
}

#[test]
fn isolation_is_standard_when_no_key_is_set() {
    assert_eq!(options(""), ContainerOptions::default());
    assert_eq!(ContainerOptions::default().isolation, Isolation::Standard);
    assert_eq!(executor("").env, []);
}

#[test]
fn every_container_key_is_read() {
    let read = options(
        "isolation = 'strict'\nnetwork = 'lab.net'\ncpus = 1.5\npids_limit = 0\nshm_size = '1g'\nuser = '1000:100'\n\
         gpus = 'device=0,1'\nenable_host_access = true\npull = 'never'\ndocker_args = ['--hostname=x']",
    );
    assert_eq!((read.isolation, read.pull, read.pids_limit), (Isolation::Strict, Some(Pull::Never), Some(0)));
    let texts = [read.network, read.cpus, read.shm_size, read.user, read.gpus].map(Option::unwrap);
    assert_eq!(texts, ["lab.net", "1.5", "1g", "1000:100", "\"device=0,1\""]);
    assert_eq!((read.host_access, read.docker_args.args), (true, ["--hostname=x".to_owned()].to_vec()));
    assert_eq!(options("isolation = 'none'").isolation, Isolation::None);
    assert_eq!(options("[executor.gpu]\nvendor = 'nvidia'").gpus.as_deref(), Some("all"));
    assert_eq!(options("[executor.gpu]\nvendor = 'nvidia'\ndevices = [1]").gpus.as_deref(), Some("device=1"));
    assert_eq!(options("gpu = 'amd'").devices, ["/dev/kfd", "/dev/dri"]);
    assert_eq!(options("gpus = 2").gpus.as_deref(), Some("2"));
}

#[test]
fn values_that_docker_accepts_are_valid() {
    for (key, values) in [
        ("cpus", &["2", "'0.5'", "0.01", "'1.000000001'"][..]),
        ("network", &["'none'", "'host'", "'bridge'", "'container:a_b'", "'my-net.1'"]),
        ("user", &["'0'", "'nobody'", "'_x'", "'1000:users'", "'machine$'"]),
        ("shm_size", &["'64m'", "'1073741824'"]),
        ("pids_limit", &["1", "4194304"]),
    ] {
        for value in values {
            options(&format!("{key} = {value}"));
        }
    }
}

#[test]
fn invalid_values_are_reported_with_line_and_column() {
    for (text, said) in [
        ("isolation = 'high'", "4:13: `executor.isolation` must be \"standard\", \"strict\" or \"none\", not `high`"),
        ("isolation = true", "4:13: `executor.isolation` must be a text"),
        ("pull = 'often'", "4:8: `executor.pull` must be \"missing\", \"always\" or \"never\", not `often`"),
        ("network = '--rm'", "4:11: `executor.network` must be"),
        ("network = 'container:'", "4:11: `executor.network` must be"),
        ("network = ''", "4:11: `executor.network` must be"),
        ("cpus = 0", "4:8: `executor.cpus` must be a number of processors, such as 2 or 1.5, not `0`"),
        ("cpus = -1", "4:8: `executor.cpus` must be"),
        ("cpus = inf", "4:8: `executor.cpus` must be"),
        ("cpus = 1e2", "4:8: `executor.cpus` must be"),
        ("cpus = '1.'", "4:8: `executor.cpus` must be"),
        ("cpus = '1.0000000001'", "4:8: `executor.cpus` must be"),
        ("cpus = true", "4:8: `executor.cpus` must be a number, not true"),
        ("pids_limit = -1", "4:14: `executor.pids_limit` must be a whole number from 0 to 4194304, not -1"),
        ("shm_size = 'much'", "4:12: `executor.shm_size` must be a number and a unit"),
        ("user = '-v'", "4:8: `executor.user` must be"),
        ("user = '1000:'", "4:8: `executor.user` must be"),
        ("user = 1000", "4:8: `executor.user` must be a text in quotes"),
        ("gpus = 'some'", "4:8: `executor.gpus` must be docker's word"),
        ("gpu = 'voodoo'", "4:7: `executor.gpu` must be \"nvidia\" or \"amd\""),
        ("[executor.gpu]\nvendor = 'intel'", "5:10: `executor.gpu.vendor` must be \"nvidia\" or \"amd\""),
        ("[executor.gpu]\nvendor = 'amd'\ndevices = '0'", "6:11: `executor.gpu.devices` must be \"all\" or paths"),
        ("[executor.gpu]\ndevices = '0'", "4:1: `executor.gpu.vendor` is missing"),
        ("gpus = 'all'\ngpu = 'amd'", "4:8: `executor.gpus` stands beside `executor.gpu`"),
        ("enable_host_access = 1", "4:22: `executor.enable_host_access` must be true or false"),
        ("network = 'none'\nenable_host_access = true", "5:22: `executor.enable_host_access` can't be had with"),
        ("docker_args = '--init'", "4:15: `executor.docker_args` must be a list of texts"),
        ("docker_args = ['-d']", "4:15: `executor.docker_args` must not hold `--detach`: the agent stays"),
    ] {
        let wrong = wrong(text);
        assert!(wrong.starts_with(said), "{text}\n{wrong}");
    }
}

#[test]
fn variables_may_have_any_single_line_value() {
    let text = "[executor.env]\nA = ''\n'b.c-d' = ' \"q\" $HOME #'\n'Ü' = \"tab\\t\"";
    let read: Vec<_> = executor(text).env;
    let read: Vec<_> = read.iter().map(|variable| (variable.name.as_str(), variable.value.expose())).collect();
    assert_eq!(read, [("A", ""), ("b.c-d", " \"q\" $HOME #"), ("Ü", "tab\t")]);
    let longest = "x".repeat(65_532);
    assert_eq!(executor(&format!("env = {{ A = '{longest}' }}")).env[0].value.expose().len(), 65_532);
}

#[test]
fn invalid_variables_are_reported_without_their_value() {
    let long = format!("A = 'hunter2{}'", "x".repeat(65_526));
    for (line, place) in [
        ("A = \"hunter2\\n\"", "5:5"),
        ("A = \"hunter2\\r\"", "5:5"),
        ("A = \"hunter2\\u0000\"", "5:5"),
        (long.as_str(), "5:5"),
        ("A = 42", "5:5"),
        ("A = 4.2", "5:5"),
        ("A = true", "5:5"),
        ("A = ['hunter2']", "5:5"),
        ("A.B = 'hunter2'", "5:1"),
        ("A = { B = 'hunter2' }", "5:5"),
        ("'' = 'hunter2'", "5:1"),
        ("'hunter2=x' = 'hunter2'", "5:1"),
        ("'hunter2 ' = 'hunter2'", "5:1"),
        ("'#hunter2' = 'hunter2'", "5:1"),
        ("\"\\uFEFFhunter2\" = 'hunter2'", "5:1"),
        ("TASK_ID = 'hunter2'", "5:1"),
        ("TIMEOUT = 'hunter2'", "5:1"),
    ] {
        let wrong = wrong(&format!("[executor.env]\n{line}"));
        assert!(wrong.starts_with(&format!("{place}: `executor.env` ")), "{wrong}");
        assert!(!wrong.contains("hunter2") && !wrong.contains("42") && !wrong.contains("4.2"), "{wrong}");
    }
    for written in ["'hunter2'", "['hunter2']", "4711"] {
        let wrong = wrong(&format!("env = {written}"));
        assert!(wrong.starts_with("4:7: `executor.env` must be a section"), "{wrong}");
        assert!(!wrong.contains("hunter2") && !wrong.contains("4711"), "{wrong}");
    }
}

#[test]
fn toml_errors_do_not_show_variable_values() {
    for line in ["A = hunter2", "A = 'hunter2", "A = \"hunter2\\q\"", "A 'hunter2'", "A = 'x' hunter2", "A = 1hunter2"]
    {
        let shown = parse(&format!("[executor.env]\n{line}")).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn variables_over_1_mib_in_total_are_refused() {
    let lines: String = (0..20).map(|i| format!("A{i} = '{}'\n", "x".repeat(60_000))).collect();
    assert!(wrong(&format!("[executor.env]\n{lines}")).contains("1 MiB"));
}

#[test]
fn debug_output_hides_variable_values() {
    let shown = format!("{:?}", parse("[executor.env]\nTOKEN = 'hunter2'").unwrap());
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
}
