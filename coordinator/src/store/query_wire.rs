//! The rows of an answer on the wire: between the coordinator and its users, and between the process that asks a SQLite file and the coordinator.

use sortie_proto::v1::{self, query_value::Value};

use super::query::{QueryRow, QueryValue};

/// A row as a message.
pub(crate) fn row_wire(row: QueryRow) -> v1::QueryRow {
    let value = |value| match value {
        QueryValue::Null => None,
        QueryValue::Integer(value) => Some(Value::Integer(value)),
        QueryValue::Real(value) => Some(Value::Real(value)),
        QueryValue::Decimal(digits) => Some(Value::Decimal(digits)),
        QueryValue::Flag(flag) => Some(Value::Flag(flag)),
        QueryValue::Text(text) => Some(Value::Text(text)),
    };
    v1::QueryRow { values: row.into_iter().map(|cell| v1::QueryValue { value: value(cell) }).collect() }
}

/// The row that a message is.
pub(super) fn row_of_wire(row: v1::QueryRow) -> QueryRow {
    let value = |value: v1::QueryValue| match value.value {
        None => QueryValue::Null,
        Some(Value::Integer(value)) => QueryValue::Integer(value),
        Some(Value::Real(value)) => QueryValue::Real(value),
        Some(Value::Decimal(digits)) => QueryValue::Decimal(digits),
        Some(Value::Flag(flag)) => QueryValue::Flag(flag),
        Some(Value::Text(text)) => QueryValue::Text(text),
    };
    row.values.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_to_the_last_bit() {
        let row = vec![
            QueryValue::Null,
            QueryValue::Integer(i64::MIN),
            QueryValue::Real(0.1 + 0.2),
            QueryValue::Real(f64::NEG_INFINITY),
            QueryValue::Decimal("12345678901234567890.5".to_owned()),
            QueryValue::Flag(true),
            QueryValue::Text(String::new()),
        ];
        assert_eq!(row_of_wire(row_wire(row.clone())), row);
    }
}
