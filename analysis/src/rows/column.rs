//! Columns and their values.

use sortie_core::parameters::Scalar;

use crate::axis::AxisValue;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Text,
    Number,
    Integer,
    Flag,
}

impl ColumnKind {
    /// The type of an axis's value.
    pub(crate) fn of(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Number(_) => Self::Number,
            Scalar::Text(_) => Self::Text,
            Scalar::Flag(_) => Self::Flag,
        }
    }

    /// The type of a column with values of both types: text if they differ.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == other { self } else { Self::Text }
    }
}

/// The name and type of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// One value of a row, of its column's type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CellValue<'a> {
    Absent,
    Text(&'a str),
    /// A text that is owned.
    Made(String),
    Number(f64),
    Integer(u64),
    Flag(bool),
}

impl<'a> CellValue<'a> {
    /// A parameter in a column of a type; as text in a text column.
    pub(crate) fn of(scalar: &'a Scalar, kind: ColumnKind) -> Self {
        match scalar {
            Scalar::Text(text) => Self::Text(text),
            _ if kind == ColumnKind::Text => Self::Made(scalar.to_string()),
            Scalar::Number(number) => Self::Number(number.get()),
            Scalar::Flag(flag) => Self::Flag(*flag),
        }
    }

    /// The same for the value of any axis.
    pub(crate) fn of_axis(value: &'a AxisValue, kind: ColumnKind) -> Self {
        match value {
            AxisValue::Absent => Self::Absent,
            AxisValue::Scalar(scalar) => Self::of(scalar, kind),
            AxisValue::Whole(value) => Self::Integer(*value),
        }
    }
}
