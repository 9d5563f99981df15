//! Variables of a worker's environment that programs of sweeps do not get: whoever writes a sweep is not whoever starts its workers.
//! A program runs as the worker's user and can read that user's files; SECURITY.md says what this does not prevent.

use tokio::process::Command;

/// What gives access to the coordinator, its database, and what the user has with the clouds and services that name such variables.
const NAMES: [&str; 21] = [
    "SORTIE_ACCESS",
    "SORTIE_DB",
    "PGPASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_API_KEY",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "KUBECONFIG",
];

/// Takes them from the environment of a program.
pub(super) fn remove(command: &mut Command) {
    for name in NAMES {
        command.env_remove(name);
    }
}
