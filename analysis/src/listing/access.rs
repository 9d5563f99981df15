//! Tokens of a coordinator, and what users did.

use serde::Serialize;

use super::style;

/// A token: whom it lets in, and for how long. The token itself is known to its holder only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    /// Its name.
    pub name: String,
    /// What it allows: "operator", "worker", "reader".
    pub role: String,
    /// "valid", "expired", "revoked".
    pub state: String,
    /// When it was stored, as RFC 3339, by the database's clock, as the other times.
    pub created: String,
    /// When it ends by itself; none if it does not.
    pub expires: Option<String>,
    /// When it was revoked; none if it was not.
    pub revoked: Option<String>,
}

/// Several tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenList {
    /// The tokens, the oldest first.
    pub tokens: Vec<TokenRow>,
}

impl TokenList {
    /// A table with one line for each token.
    pub fn text(&self) -> String {
        let mut table = style::table(vec!["name", "role", "state", "created", "expires"]);
        for TokenRow { name, role, state, created, expires, revoked } in &self.tokens {
            let state = revoked.as_ref().map_or_else(|| state.clone(), |at| format!("{state} {at}"));
            let expires = expires.clone().unwrap_or_else(|| "never".to_owned());
            table.add_row(vec![name.clone(), role.clone(), state, created.clone(), expires]);
        }
        table.trim_fmt()
    }
}

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// Later ones have greater numbers.
    pub number: i64,
    /// When, as RFC 3339, by the database's clock.
    pub at: String,
    /// The name of the token; empty where the coordinator asks for none.
    pub name: String,
    /// The role of the token; empty where the coordinator asks for none.
    pub role: String,
    /// A word such as "cancel".
    pub action: String,
    /// The sweep; empty for none.
    pub sweep: String,
    /// Further words, perhaps none.
    pub detail: String,
}

/// What users did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditList {
    /// The newest first.
    pub entries: Vec<AuditRow>,
}

impl AuditList {
    /// A table with one line for each.
    pub fn text(&self) -> String {
        let mut table = style::table(vec!["when", "who", "role", "action", "sweep", "detail"]);
        for AuditRow { at, name, role, action, sweep, detail, .. } in &self.entries {
            let who = if name.is_empty() { "(no token)" } else { name };
            table.add_row(vec![at, who, role, action, sweep, detail]);
        }
        table.trim_fmt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_show_each_in_a_line() {
        let token = TokenRow {
            name: "ci".into(),
            role: "worker".into(),
            state: "revoked".into(),
            created: "2026-01-02T03:04:05Z".into(),
            expires: None,
            revoked: Some("2026-01-03T00:00:00Z".into()),
        };
        assert_eq!(
            TokenList { tokens: vec![token] }.text(),
            " name  role    state                         created               expires\n ci    worker  revoked 2026-01-03T00:00:00Z  2026-01-02T03:04:05Z  never"
        );
        let entry = AuditRow {
            number: 1,
            at: "2026-01-02T03:04:05Z".into(),
            name: String::new(),
            role: String::new(),
            action: "cancel".into(),
            sweep: "pacs".into(),
            detail: String::new(),
        };
        let text = AuditList { entries: vec![entry] }.text();
        assert!(text.contains("(no token)") && text.contains("cancel  pacs"), "{text}");
    }
}
