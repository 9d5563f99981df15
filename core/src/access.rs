//! Who may ask a coordinator for what: one table of calls and roles. The check of every request, the document and the test read it.

use crate::named;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A user: everything, what workers do included, since an import delivers results as a worker does.
    Operator,
    /// A machine that runs trials.
    Worker,
    /// Somebody who looks: nothing that changes anything.
    Reader,
}
named!(Role, "role", { Operator => "operator", Worker => "worker", Reader => "reader" });

/// The longest name of a token.
const TOKEN_NAME_MAX: usize = 64;

/// Why a text cannot be the name of a token; none if it can.
pub fn token_name_fault(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_name = (1..=TOKEN_NAME_MAX).contains(&name.len()) && name.chars().all(is_plain);
    (!is_name).then(|| {
        format!("{name:?} is no name of a token; it must have 1 to {TOKEN_NAME_MAX} letters, digits, '.', '-' or '_'")
    })
}

/// Who makes a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// Whoever reaches a coordinator that asks for no token.
    #[default]
    Anybody,
    /// The holder of a token.
    Holder {
        /// The token's name.
        name: String,
        /// What it allows.
        role: Role,
    },
}

/// A call, and who may make it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The service's name on the wire.
    pub service: &'static str,
    /// The method's name.
    pub method: &'static str,
    /// The roles that may.
    pub roles: &'static [Role],
}

const SWEEPS: &str = "sortie.v1.SweepService";
const WORKERS: &str = "sortie.v1.WorkerService";
const ACCESS: &str = "sortie.v1.AccessService";

/// Changes sweeps, decides who may, or reads the whole database.
const USERS: &[Role] = &[Role::Operator];
/// Reads.
const READERS: &[Role] = &[Role::Operator, Role::Reader];
/// Runs trials.
const MACHINES: &[Role] = &[Role::Operator, Role::Worker];
/// Says nothing but the versions.
const ALL: &[Role] = &[Role::Operator, Role::Worker, Role::Reader];

/// Every call of the protocol, in the order of the .proto files.
pub const CALLS: &[Call] = &[
    call(SWEEPS, "Handshake", ALL),
    call(SWEEPS, "Submit", USERS),
    call(SWEEPS, "Outlook", READERS),
    call(SWEEPS, "Preview", READERS),
    call(SWEEPS, "Extend", USERS),
    call(SWEEPS, "Describe", READERS),
    call(SWEEPS, "Status", READERS),
    call(SWEEPS, "Control", USERS),
    call(SWEEPS, "Delete", USERS),
    call(SWEEPS, "Trials", READERS),
    call(SWEEPS, "Explain", READERS),
    call(SWEEPS, "Logs", READERS),
    call(SWEEPS, "Artifacts", READERS),
    call(SWEEPS, "Verify", USERS),
    call(SWEEPS, "Certify", READERS),
    call(SWEEPS, "Workers", READERS),
    call(SWEEPS, "Release", USERS),
    call(SWEEPS, "Pin", USERS),
    call(SWEEPS, "Unpin", USERS),
    call(SWEEPS, "Results", READERS),
    call(SWEEPS, "Query", READERS),
    call(SWEEPS, "Backup", USERS),
    call(WORKERS, "Register", MACHINES),
    call(WORKERS, "Lease", MACHINES),
    call(WORKERS, "Heartbeat", MACHINES),
    call(WORKERS, "Report", MACHINES),
    call(WORKERS, "Complete", MACHINES),
    call(WORKERS, "Leave", MACHINES),
    call(ACCESS, "CreateToken", USERS),
    call(ACCESS, "Tokens", USERS),
    call(ACCESS, "RevokeToken", USERS),
    call(ACCESS, "RotateToken", USERS),
    call(ACCESS, "Audit", USERS),
];

const fn call(service: &'static str, method: &'static str, roles: &'static [Role]) -> Call {
    Call { service, method, roles }
}

/// Whether a role may call a path such as `/sortie.v1.SweepService/Status`. What is not in the table nobody may call.
pub fn may_call(role: Role, path: &str) -> bool {
    let mut parts = path.split('/');
    let (Some(""), Some(service), Some(method), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let call = CALLS.iter().find(|call| call.method == method && call.service == service);
    call.is_some_and(|call| call.roles.contains(&role))
}

/// The table as a document shows it.
pub fn table() -> String {
    let head: String = Role::ALL.iter().map(|role| format!(" {role} |")).collect();
    let line = "---|".repeat(Role::ALL.len());
    let mut text = format!("| call |{head}\n|---|{line}\n");
    for Call { service, method, roles } in CALLS {
        let service = service.rsplit('.').next().unwrap_or_default();
        let cells: String =
            Role::ALL.iter().map(|role| if roles.contains(role) { " yes |" } else { " |" }).collect();
        text.push_str(&format!("| `{service}.{method}` |{cells}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: [(&str, &str); 3] = [
        (SWEEPS, include_str!("../../proto/sortie/v1/sweep.proto")),
        (WORKERS, include_str!("../../proto/sortie/v1/worker.proto")),
        (ACCESS, include_str!("../../proto/sortie/v1/access.proto")),
    ];

    #[test]
    fn every_call_of_the_protocol_is_in_the_table_once_and_no_other() {
        let mut rpcs = Vec::new();
        for (service, text) in PROTOCOL {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
            rpcs.extend(lines.map(|line| (service, line.split('(').next().unwrap())));
        }
        let calls: Vec<_> = CALLS.iter().map(|call| (call.service, call.method)).collect();
        assert_eq!(calls, rpcs);
    }

    #[test]
    fn a_reader_changes_nothing_and_a_worker_does_nothing_else() {
        let may = |role, method: &str, service: &str| may_call(role, &format!("/{service}/{method}"));
        for method in ["Submit", "Extend", "Control", "Delete", "Verify", "Release", "Pin", "Unpin", "Backup"]
        {
            assert!(may(Role::Operator, method, SWEEPS), "{method}");
            assert!(!may(Role::Reader, method, SWEEPS) && !may(Role::Worker, method, SWEEPS), "{method}");
        }
        for call in CALLS.iter().filter(|call| call.service == WORKERS) {
            assert!(may(Role::Worker, call.method, WORKERS) && !may(Role::Reader, call.method, WORKERS));
        }
        assert!(may(Role::Reader, "Status", SWEEPS) && !may(Role::Worker, "Status", SWEEPS));
        for path in [
            "",
            "/",
            "/sortie.v1.SweepService",
            "/sortie.v1.SweepService/",
            "/sortie.v1.SweepService/status",
            "/sortie.v1.SweepService/Status/x",
            "sortie.v1.SweepService/Status",
            "/sortie.v1.WorkerService/Status",
        ] {
            assert!(!may_call(Role::Operator, path), "{path}");
        }
    }

    #[test]
    fn the_document_shows_the_table() {
        let document = include_str!("../../SECURITY.md");
        assert!(document.contains(&table()), "SECURITY.md must contain\n{}", table());
    }
}
