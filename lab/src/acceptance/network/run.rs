//! The check, step by step.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sortie_access::{AccessFile, Token};
use sortie_testkit::processes::Process;
use sortie_testkit::wait;

use super::super::descendants::DescendantKiller;
use super::capture::Capture;
use super::flood;
use super::hosts::{HEAD, Host, Network, PORT, check_refusal};
use crate::programs::{ProgramOptions, Programs};

/// That of somebody else's coordinator on the same host.
const IMPOSTOR: &str = "7071";
/// The longest that anything but a flood takes here.
const LIMIT: Duration = Duration::from_secs(180);
/// Nobody's user id.
const NOBODY: &str = "65534";

/// Runs the check, and prints what it saw.
///
/// # Errors
/// When something is not as it must be.
pub fn run(options: &ProgramOptions) -> Result<()> {
    let programs = options.folder()?;
    Programs::in_folder(&programs)?;
    let folder =
        tempfile::Builder::new().prefix("sortie-network-").tempdir().context("cannot make a folder")?;
    let outcome = run_in(folder.path(), &programs);
    if outcome.is_err() {
        eprintln!("the logs are kept in {}", folder.keep().display());
    }
    outcome
}

fn run_in(folder: &Path, programs: &Path) -> Result<()> {
    // Values are dropped in reverse order: the network goes when its processes are gone.
    let network = Network::make(folder, programs, &["head", "one", "two", "other"])?;
    let _killer = DescendantKiller::start()?;
    let [head, one, two, other] = [0, 1, 2, 3].map(|index| network.host(index));
    let coordinator = serve(head, "serve", PORT, head)?;
    let _impostor = serve(head, "impostor", IMPOSTOR, other)?;
    let show =
        |role: &str| Ok(head.says(&["access", "show", "--role", role, "--one-line"])?.trim().to_owned());
    let [operator, worker, reader]: [Result<String>; 3] = ["operator", "worker", "reader"].map(show);
    let (operator, worker, reader) = (operator?, worker?, reader?);

    let capture = Capture::start(head, PORT)?;
    let _workers = [one, two].map(|host| start_worker(head, host)).into_iter().collect::<Result<Vec<_>>>()?;
    sweep(head, "first", 0.2, 40)?;
    head.says(&["wait", "first"])?;
    let token = worker_token(&worker)?;
    capture.check(&["sortie_", "sortie.v1", "first", &token])?;
    ensure!(attempts_at_most_one(head)?, "a trial was tried twice without a fault");

    refusals(folder, programs, [head, other], [&operator, &reader])?;
    foreign_workers(head, one, &worker)?;

    sweep(head, "flooded", 1.0, 600)?;
    flood::run(&coordinator, other, one, &worker)?;
    // Whoever shares the flooding host is served again at once.
    let mut command = other.ours("sortie", &["status"]);
    let output = command.env("SORTIE_ACCESS", &reader).output().context("cannot run sortie")?;
    ensure!(output.status.success(), "after the flood: {}", String::from_utf8_lossy(&output.stderr));
    head.says(&["wait", "flooded"])?;
    ensure!(attempts_at_most_one(head)?, "a trial was lost during a flood");
    println!("no trial was lost");
    Ok(())
}

/// Starts a coordinator on a host, as the user whose home it is.
fn serve(host: &Host, name: &str, port: &str, user: &Host) -> Result<Process> {
    let (listen, advertise) = (format!("0.0.0.0:{port}"), format!("{HEAD}:{port}"));
    let mut command = host.ours(
        "sortie",
        &["serve", "--db", "sweeps.db", "--listen", &listen, "--advertise", &advertise, "--lease", "5"],
    );
    command.env("HOME", &user.home).current_dir(&user.home);
    let process = Process::start(name, &mut command, &user.home.join("serve.log"))?;
    ensure!(wait::until(LIMIT, || process.written().contains("listening on")), "{}", process.written());
    Ok(process)
}

/// The access file is all that is brought to a worker's host.
fn start_worker(head: &Host, host: &Host) -> Result<Process> {
    let file = host.home.join("worker.toml");
    fs::write(&file, head.says(&["access", "show", "--role", "worker"])?)
        .context("cannot write worker.toml")?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    host.start(
        "worker",
        &["worker", "--access", "worker.toml", "--devices", "cpu", "--slots", "4", "--allow-commands"],
    )
}

fn sweep(head: &Host, name: &str, seconds: f64, trials: u32) -> Result<()> {
    let metric = r#"echo '{{"step": 1, "domain": "a", "split": "out", "metrics": {{"accuracy": 0.5}}}}'"#;
    let text = format!(
        "name = \"{name}\"\n[run]\ncommand = [\"sh\", \"-c\", '''sleep {seconds}; {metric}''', \"{name}\"]\n[grid]\nseeds = {trials}\n"
    );
    fs::write(head.home.join("sweep.toml"), text).context("cannot write the sweep")?;
    head.says(&["submit", "sweep.toml"]).map(drop)
}

fn attempts_at_most_one(head: &Host) -> Result<bool> {
    let counted = head.says(&["sql", "select max(attempts) as most from v_trials", "--json"])?;
    let counted: Value = serde_json::from_str(&counted).context("sql printed no JSON")?;
    Ok(counted["rows"][0]["most"] == 1)
}

fn worker_token(line: &str) -> Result<String> {
    Ok(AccessFile::parse(line, "the access line")?.token.reveal().to_owned())
}

/// Who is no part of it, and what each is told.
fn refusals(
    folder: &Path,
    programs: &Path,
    [head, other]: [&Host; 2],
    [operator, reader]: [&str; 2],
) -> Result<()> {
    let place = format!("https://{HEAD}:{PORT}");
    let status = ["status", "--coordinator", &place];
    // Another user of the coordinator's host reads nothing and knows nobody.
    let sortie = folder.join("sortie");
    fs::copy(programs.join("sortie"), &sortie).context("cannot copy sortie")?;
    fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    let mut command = head.command("setpriv");
    command.args(["--reuid", NOBODY, "--clear-groups"]).arg(&sortie).args(status).env("HOME", "/nonexistent");
    let output = command.current_dir("/").output().context("cannot run setpriv")?;
    check_refusal("another user of the coordinator's host", &output, "no access file")?;
    let mut command = head.command("setpriv");
    command.args(["--reuid", NOBODY, "--clear-groups", "cat"]).current_dir("/");
    let output = command.arg(head.home.join(".local/state/sortie/identity.toml")).output()?;
    check_refusal("another user who reads the identity", &output, "Permission denied")?;

    // A user with a coordinator of their own on the same host: another CA. The token goes to neither.
    other.refused(&status, &[], "another CA")?;
    let impostor = format!("https://{HEAD}:{IMPOSTOR}");
    head.refused(&["status", "--coordinator", &impostor], &[], "another CA")?;
    let plain = format!("http://{HEAD}:{PORT}");
    other.refused(&["status", "--coordinator", &plain, "--insecure"], &[], "coordinator")?;

    let unknown =
        AccessFile { token: Token::new()?, ..AccessFile::parse(operator, "the access line")? }.line();
    let made = |name: &str, more: &[&str]| {
        let words = ["token", "create", "--role", "reader", "--name", name, "--one-line"];
        Ok::<_, anyhow::Error>(head.says(&[&words[..], more].concat())?.trim().to_owned())
    };
    let (revoked, expired) = (made("revoked", &[])?, made("expired", &["--expires", "1s"])?);
    head.says(&["token", "revoke", "revoked"])?;
    std::thread::sleep(Duration::from_secs(2));
    for (line, part) in [
        (unknown.as_str(), "does not know this token"),
        (&revoked, "\"revoked\" was revoked"),
        (&expired, "\"expired\" has expired"),
    ] {
        other.refused(&["status"], &[("SORTIE_ACCESS", line)], part)?;
    }
    fs::write(
        other.home.join("sweep.toml"),
        "name = \"x\"\n[run]\ncommand = [\"true\", \"{seed}\"]\n[grid]\nseeds = 1\n",
    )?;
    other.refused(
        &["submit", "sweep.toml"],
        &[("SORTIE_ACCESS", reader)],
        "a reader's token does not allow Submit",
    )
}

/// A worker's host that says what is another worker's to say.
fn foreign_workers(head: &Host, host: &Host, access: &str) -> Result<()> {
    sweep(head, "long", 20.0, 1)?;
    let running = || {
        let trials: Value = serde_json::from_str(&head.says(&["trials", "long", "--json"]).ok()?).ok()?;
        let trial = trials["trials"][0]["trial"].as_str()?.to_owned();
        let told: Value = serde_json::from_str(&head.says(&["explain", &trial, "--json"]).ok()?).ok()?;
        told["token"].as_i64().filter(|_| told["state"] == "running")
    };
    let token =
        wait::for_some(LIMIT, || running().map(Ok::<i64, anyhow::Error>)).context("no trial runs")??;
    let workers: Value = serde_json::from_str(&head.says(&["workers", "--json"])?).context("no JSON")?;
    let worker = workers["workers"][0]["worker"].as_str().context("no worker")?;
    let address = format!("{HEAD}:{PORT}");
    let words = ["network-peer", "steal", "--address", &address, "--worker", worker, "--seconds", "5"];
    let mut command = host.ours("sortie-lab", &words);
    let output = command.args(["--token", &token.to_string()]).env("SORTIE_PEER_ACCESS", access).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "steal: {said}{}", String::from_utf8_lossy(&output.stderr));
    for (line, part) in said.lines().zip([
        "another process registered",
        "another worker's",
        "another worker's",
        "another worker's",
    ]) {
        ensure!(line.contains(part), "{line:?} is not the refusal {part:?}");
        println!("refused: {line}");
    }
    ensure!(said.lines().count() == 4, "steal: {said}");
    head.says(&["wait", "long"])?;
    Ok(())
}
