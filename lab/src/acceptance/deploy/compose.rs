//! The compose file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::settings::{self, KnownVariables};
use crate::programs::Programs;

/// Reads YAML on standard input and writes JSON. check-jsonschema installs this reader.
const TO_JSON: &str =
    "import json, sys; from ruamel.yaml import YAML; json.dump(YAML(typ='safe').load(sys.stdin), sys.stdout)";

/// The parts of the file that the schema does not check: a name that is used must be defined.
#[derive(Debug, Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    #[serde(default)]
    volumes: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    command: Vec<String>,
    environment: BTreeMap<String, Value>,
    volumes: Vec<String>,
    depends_on: BTreeMap<String, Dependency>,
    healthcheck: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    condition: String,
}

/// Checks the file against the schema, its names against each other, and its commands against the programs.
pub fn check(path: &Path, checker: &Path, programs: &Programs, known: &KnownVariables) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    check_schema(checker, path)?;
    // The check itself is checked: it must refuse a broken file.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let broken = scratch.path().join("compose.yaml");
    fs::write(&broken, text.replace("healthcheck:", "healthcheque:"))
        .with_context(|| format!("cannot write {}", broken.display()))?;
    ensure!(check_schema(checker, &broken).is_err(), "the schema accepts a compose file with a misspelt key");
    let compose = parse(checker, path)?;
    check_names(&compose)?;
    for (name, service) in compose.services.iter().filter(|(_, service)| !service.command.is_empty()) {
        settings::check_command(programs, &service.command).with_context(|| format!("service {name}"))?;
        for variable in service.environment.keys() {
            known.check(variable, &[]).with_context(|| format!("service {name}"))?;
        }
    }
    println!(
        "compose.yaml: fits the schema of the compose specification, and the programs accept its commands and settings"
    );
    Ok(())
}

/// `checker` is a folder for PYTHONPATH that holds check-jsonschema, which carries the schema of the compose specification.
fn check_schema(checker: &Path, file: &Path) -> Result<()> {
    let output = Command::new("python3")
        .args(["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"])
        .env("PYTHONPATH", checker)
        .stdin(Stdio::null())
        .arg(file)
        .output()
        .context("cannot start python3")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = stdout.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    ensure!(output.status.success(), "{}", lines.join(" | "));
    Ok(())
}

fn parse(checker: &Path, path: &Path) -> Result<Compose> {
    let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let output =
        Command::new("python3").args(["-c", TO_JSON]).env("PYTHONPATH", checker).stdin(file).output();
    let output = output.context("cannot start python3")?;
    ensure!(output.status.success(), "{} is not YAML", path.display());
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} has an unknown structure", path.display()))
}

fn check_names(compose: &Compose) -> Result<()> {
    for (name, service) in &compose.services {
        for volume in &service.volumes {
            let source = volume.split(':').next().unwrap_or_default();
            // A source that starts like a path or a variable is a folder of the machine.
            let is_folder = source.starts_with(['.', '/', '~', '$']);
            ensure!(
                is_folder || compose.volumes.contains_key(source),
                "service {name}: there is no volume {source}"
            );
        }
        for (dependency, Dependency { condition }) in &service.depends_on {
            let other = compose
                .services
                .get(dependency)
                .with_context(|| format!("service {name}: there is no service {dependency}"))?;
            let waits = condition == "service_healthy";
            ensure!(
                !waits || other.healthcheck.is_some(),
                "service {name} waits for the health of {dependency}, which has no check"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<()> {
        check_names(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn names_that_are_used_must_be_defined() {
        let whole = r#"{"volumes": {"rows": null}, "services": {
            "store": {"volumes": ["rows:/rows", "${DATA:?}:/data:ro"], "healthcheck": {}},
            "user": {"depends_on": {"store": {"condition": "service_healthy"}}}}}"#;
        checked(whole).unwrap();
        assert!(
            checked(&whole.replace("rows:/rows", "lines:/rows"))
                .unwrap_err()
                .to_string()
                .contains("no volume lines")
        );
        assert!(
            checked(&whole.replace(r#"{"store": {"c"#, r#"{"shop": {"c"#))
                .unwrap_err()
                .to_string()
                .contains("no service shop")
        );
        assert!(
            checked(&whole.replace(r#", "healthcheck": {}"#, ""))
                .unwrap_err()
                .to_string()
                .contains("no check")
        );
    }
}
