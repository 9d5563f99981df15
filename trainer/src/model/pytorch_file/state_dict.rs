//! The tensors of a checkpoint's pickle by name: what its dictionaries hold, at any depth. Everything else is passed over.

use std::borrow::Cow;
use std::collections::HashSet;

use tch::Kind;

use super::pickle::{Id, Object, Pickle, Value};
use crate::model::matching::TensorName;

/// Bytes of a tensor's name at most.
const NAME_BYTES_MAX: usize = 1_000;
/// How deep in each other dictionaries are looked into.
const DEPTH_MAX: usize = 64;
/// Bytes of the key of a storage, and of the name of its type, at most.
const KEY_BYTES_MAX: usize = 500;
/// Dimensions of a tensor at most: PyTorch allows 64.
const DIMENSIONS_MAX: usize = 64;
/// Values that are looked at, at most: those that are there under several names count each time.
const LOOKS_MAX: usize = 1 << 24;
/// Tensors of a checkpoint at most. One that is there under several names counts several times.
const TENSORS_MAX: usize = 1 << 16;

/// A tensor as the pickle describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorLayout {
    pub(super) storage: Storage,
    pub(super) kind: Kind,
    /// The first element's place in the storage.
    pub(super) offset: i64,
    pub(super) size: Vec<i64>,
    /// How many elements lie between neighbours, for each dimension.
    pub(super) strides: Vec<i64>,
}

/// A run of numbers outside the pickle, which tensors are views of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) elements: u64,
    pub(super) element_bytes: u64,
    /// None if no tensor of a network has such elements.
    kind: Option<Kind>,
    /// Where a storage begins that is a part of this one, in elements. Only files of the first releases have such.
    start: i64,
}

impl Storage {
    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> u64 {
        self.elements.saturating_mul(self.element_bytes)
    }
}

/// A tensor, or why there is none of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: TensorName,
    pub(super) layout: Result<TensorLayout, String>,
}

/// All tensors below the pickle's value, in the order of the file.
///
/// # Errors
/// One line when there are too many.
pub(super) fn entries(pickle: &Pickle) -> Result<Vec<Entry>, String> {
    let mut search =
        Search { pickle, entries: Vec::new(), around: Vec::new(), barren: HashSet::new(), looks: 0 };
    search.look_into(pickle.root(), "", None)?;
    Ok(search.entries)
}

/// All storages that the pickle names, each once.
///
/// # Errors
/// One line when the description of one is damaged.
pub(super) fn storages(pickle: &Pickle) -> Result<Vec<Storage>, String> {
    let mut storages: Vec<Storage> = Vec::new();
    for value in pickle.values() {
        if let Value::Persistent(name) = value {
            storages.push(storage(pickle, *name)?);
        }
    }
    storages.sort_by(|a, b| a.key.cmp(&b.key));
    storages.dedup_by(|a, b| a.key == b.key);
    Ok(storages)
}

struct Search<'a, 'b> {
    pickle: &'a Pickle<'b>,
    entries: Vec<Entry>,
    /// The values that this one lies in: a value may hold itself.
    around: Vec<Id>,
    /// Values that hold no tensor.
    barren: HashSet<Id>,
    /// How many values were looked at.
    looks: usize,
}

impl Search<'_, '_> {
    /// `name` are the keys up to this value. `module` is the nest of the module around it, if there is one: a module's parts belong to the
    /// state dictionary of the whole.
    fn look_into(&mut self, id: Id, name: &str, module: Option<usize>) -> Result<(), String> {
        let value = self.pickle.value(id);
        let is_container = matches!(value, Value::Dict(_) | Value::Sequence(_) | Value::Object(_));
        if !is_container
            || self.around.len() >= DEPTH_MAX
            || self.around.contains(&id)
            || self.barren.contains(&id)
        {
            return Ok(());
        }
        let before = self.entries.len();
        self.around.push(id);
        match value {
            Value::Dict(items) => self.look_at(items, name, name.len(), None)?,
            Value::Sequence(items) => {
                for (index, &item) in items.iter().enumerate() {
                    self.count()?;
                    self.look_at_one(item, &format!("{name}{index}"), name.len(), None)?;
                }
            }
            Value::Object(object) => self.look_into_object(object, name, module)?,
            _ => {}
        }
        self.around.pop();
        if self.entries.len() == before {
            self.barren.insert(id);
        }
        Ok(())
    }

    fn look_into_object(&mut self, object: &Object, name: &str, module: Option<usize>) -> Result<(), String> {
        if let Some(Value::Dict(attributes)) = object.state.map(|state| self.pickle.value(state))
            && let Some(tables) = module_tables(self.pickle, attributes)
        {
            let nest = module.unwrap_or(name.len());
            for table in tables {
                self.look_at(&table, name, nest, Some(nest))?;
            }
            return Ok(());
        }
        if is_ordered_dict(self.pickle, object) {
            let listed = listed_items(self.pickle, object.arguments);
            self.look_at(&listed, name, name.len(), None)?;
        }
        self.look_at(&object.items, name, name.len(), None)
    }

    fn look_at(
        &mut self,
        items: &[(Id, Id)],
        name: &str,
        nest: usize,
        module: Option<usize>,
    ) -> Result<(), String> {
        for &(key, value) in items {
            self.count()?;
            let key: Cow<str> = match self.pickle.value(key) {
                Value::Text(text) => Cow::Borrowed(text),
                Value::Int(number) => Cow::Owned(number.to_string()),
                _ => continue,
            };
            if name.len() + key.len() <= NAME_BYTES_MAX {
                self.look_at_one(value, &format!("{name}{key}"), nest, module)?;
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), String> {
        self.looks += 1;
        if self.looks > LOOKS_MAX { Err("it refers to its values too often".into()) } else { Ok(()) }
    }

    fn look_at_one(&mut self, id: Id, name: &str, nest: usize, module: Option<usize>) -> Result<(), String> {
        if self.entries.len() >= TENSORS_MAX {
            return Err(format!("it has more than {TENSORS_MAX} tensors"));
        }
        match tensor(self.pickle, id) {
            Some(layout) => {
                self.entries.push(Entry { name: TensorName { name: name.to_owned(), nest }, layout });
            }
            None => self.look_into(id, &format!("{name}."), module)?,
        }
        Ok(())
    }
}

fn is_ordered_dict(pickle: &Pickle, object: &Object) -> bool {
    matches!(pickle.value(object.callable), Value::Global(name) if name == "collections.OrderedDict")
}

/// Python 2 wrote an `OrderedDict` as a call with a list of pairs.
fn listed_items(pickle: &Pickle, arguments: Id) -> Vec<(Id, Id)> {
    let pair = |&item: &Id| match sequence(pickle, item) {
        &[key, value] => Some((key, value)),
        _ => None,
    };
    match sequence(pickle, arguments) {
        &[list] => sequence(pickle, list).iter().filter_map(pair).collect(),
        _ => Vec::new(),
    }
}

/// What `state_dict()` would give of a module that was saved whole: its parameters, its buffers, and its modules with theirs.
fn module_tables(pickle: &Pickle, attributes: &[(Id, Id)]) -> Option<[Vec<(Id, Id)>; 3]> {
    let attribute = |name: &str| {
        let found = attributes.iter().find(|(key, _)| text(pickle, *key).is_some_and(|key| key == name));
        found.map(|(_, value)| *value)
    };
    let table = |name: &str| match pickle.value(attribute(name)?) {
        Value::Dict(items) => Some(items.clone()),
        Value::Object(object) if is_ordered_dict(pickle, object) => {
            Some([listed_items(pickle, object.arguments), object.items.clone()].concat())
        }
        _ => None,
    };
    let mut tables = [table("_parameters")?, table("_buffers")?, table("_modules")?];
    // Protocols before 4 write a set as a call with a list.
    let left_out: &[Id] = match attribute("_non_persistent_buffers_set").map(|set| pickle.value(set)) {
        Some(Value::Sequence(names)) => names,
        Some(Value::Object(set)) => match sequence(pickle, set.arguments) {
            &[list] => sequence(pickle, list),
            _ => &[],
        },
        _ => &[],
    };
    let left_out: HashSet<&str> = left_out.iter().filter_map(|&name| text(pickle, name)).collect();
    tables[1].retain(|(key, _)| !text(pickle, *key).is_some_and(|key| left_out.contains(key)));
    Some(tables)
}

fn text<'a>(pickle: &'a Pickle, id: Id) -> Option<&'a str> {
    match pickle.value(id) {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn sequence<'a>(pickle: &'a Pickle, id: Id) -> &'a [Id] {
    match pickle.value(id) {
        Value::Sequence(items) => items,
        _ => &[],
    }
}

/// The tensor that a value stands for; none if it is something else. The inner error says why a tensor cannot be read.
fn tensor(pickle: &Pickle, id: Id) -> Option<Result<TensorLayout, String>> {
    let Value::Object(object) = pickle.value(id) else { return None };
    let (mut callable, mut arguments) = (object.callable, object.arguments);
    for _ in 0..DEPTH_MAX {
        let Value::Global(function) = pickle.value(callable) else { return None };
        let parts = sequence(pickle, arguments);
        match (function.as_str(), parts) {
            // Of a subclass of tensors: the function that makes it, the class, the function's arguments, attributes.
            ("torch._tensor._rebuild_from_type_v2", &[function, _, inner, ..]) => {
                (callable, arguments) = (function, inner);
            }
            (
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
                &[data, ..],
            ) => {
                let Value::Object(data) = pickle.value(data) else { return None };
                (callable, arguments) = (data.callable, data.arguments);
            }
            (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                &[storage, offset, size, strides, ..],
            ) => return Some(layout(pickle, [storage, offset, size, strides], None)),
            ("torch._utils._rebuild_tensor_v3", &[storage, offset, size, strides, _, _, dtype, ..]) => {
                return Some(layout(pickle, [storage, offset, size, strides], Some(dtype)));
            }
            (other, _) if other.starts_with("torch._utils._rebuild_") => {
                return Some(Err(format!("it is made by {other}, which is not read")));
            }
            _ => return None,
        }
    }
    None
}

fn layout(
    pickle: &Pickle,
    [stored, offset, size, strides]: [Id; 4],
    dtype: Option<Id>,
) -> Result<TensorLayout, String> {
    let damaged = || "its description is damaged".to_owned();
    let Value::Persistent(name) = pickle.value(stored) else { return Err(damaged()) };
    let mut storage = storage(pickle, *name)?;
    if let Some(dtype) = dtype {
        // The storage has no type of its own and counts bytes.
        let Value::Global(dtype) = pickle.value(dtype) else { return Err(damaged()) };
        let (kind, element_bytes) =
            element(dtype).ok_or_else(|| format!("its elements are {dtype}, which is not read"))?;
        storage = Storage { kind, element_bytes, elements: storage.bytes() / element_bytes, ..storage };
    }
    let kind = storage.kind.ok_or("its elements are of a type that no network here has")?;
    let numbers = |id: Id| -> Result<Vec<i64>, String> {
        let number = |&id: &Id| match pickle.value(id) {
            &Value::Int(number) if number >= 0 => Ok(number),
            _ => Err(damaged()),
        };
        let dimensions = sequence(pickle, id);
        if dimensions.len() > DIMENSIONS_MAX {
            Err(damaged())
        } else {
            dimensions.iter().map(number).collect()
        }
    };
    let &Value::Int(offset) = pickle.value(offset) else { return Err(damaged()) };
    let offset = offset.checked_add(storage.start).filter(|&offset| offset >= 0).ok_or_else(damaged)?;
    let layout = TensorLayout { kind, offset, size: numbers(size)?, strides: numbers(strides)?, storage };
    if layout.fits() { Ok(layout) } else { Err("it lies outside its storage".into()) }
}

impl TensorLayout {
    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> u64 {
        let elements = self.size.iter().fold(1_u64, |product, &n| product.saturating_mul(n.unsigned_abs()));
        elements.saturating_mul(self.storage.element_bytes)
    }

    /// Whether all its elements lie in the storage, each at a place of its own at most.
    fn fits(&self) -> bool {
        if self.size.len() != self.strides.len() {
            return false;
        }
        if self.size.contains(&0) {
            return true;
        }
        let steps = self.size.iter().zip(&self.strides);
        let last = steps
            .map(|(n, stride)| (n - 1).checked_mul(*stride))
            .try_fold(self.offset, |last, step| last.checked_add(step?));
        last.is_some_and(|last| last.unsigned_abs() < self.storage.elements)
    }
}

/// `('storage', its class, its key, its device, how many elements)`, in early files with the part of another storage that it is.
fn storage(pickle: &Pickle, name: Id) -> Result<Storage, String> {
    let damaged = || "the description of a tensor's storage is damaged".to_owned();
    let [_, class, key, _, elements, view @ ..] = sequence(pickle, name) else { return Err(damaged()) };
    let class = match pickle.value(*class) {
        Value::Global(class) => class.as_str(),
        Value::Text(class) => &**class,
        _ => return Err(damaged()),
    };
    if class.len() > KEY_BYTES_MAX {
        return Err(damaged());
    }
    let (kind, element_bytes) =
        element(class).ok_or_else(|| format!("a tensor's storage is {class}, which is not read"))?;
    let key = match pickle.value(*key) {
        Value::Text(key) if key.len() <= KEY_BYTES_MAX => key.to_string(),
        Value::Int(key) => key.to_string(),
        _ => return Err(damaged()),
    };
    let &Value::Int(elements) = pickle.value(*elements) else { return Err(damaged()) };
    let elements = u64::try_from(elements).map_err(|_| damaged())?;
    let start = match view {
        [view, ..] => match sequence(pickle, *view) {
            &[_, start, _] => match pickle.value(start) {
                &Value::Int(start) if start >= 0 => start,
                _ => return Err(damaged()),
            },
            _ => 0,
        },
        [] => 0,
    };
    Ok(Storage { key, elements, element_bytes, kind, start })
}

/// The elements of a storage's class, or of a tensor's type: their kind where a network may have it, and their bytes.
fn element(class: &str) -> Option<(Option<Kind>, u64)> {
    let name = class.rsplit('.').next().unwrap_or(class);
    Some(match name {
        "DoubleStorage" | "float64" => (Some(Kind::Double), 8),
        "FloatStorage" | "float32" => (Some(Kind::Float), 4),
        "HalfStorage" | "float16" => (Some(Kind::Half), 2),
        "BFloat16Storage" | "bfloat16" => (Some(Kind::BFloat16), 2),
        "LongStorage" | "int64" => (Some(Kind::Int64), 8),
        "IntStorage" | "int32" => (Some(Kind::Int), 4),
        "ShortStorage" | "int16" => (Some(Kind::Int16), 2),
        "CharStorage" | "int8" => (Some(Kind::Int8), 1),
        "ByteStorage" | "uint8" => (Some(Kind::Uint8), 1),
        "BoolStorage" | "bool" => (Some(Kind::Bool), 1),
        "ComplexFloatStorage" | "uint64" => (None, 8),
        "ComplexDoubleStorage" => (None, 16),
        "QInt32Storage" | "uint32" => (None, 4),
        "uint16" => (None, 2),
        "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => {
            (None, 1)
        }
        _ => return None,
    })
}
