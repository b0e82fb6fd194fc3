//! Any message of the wire as JSON, complete and stable.
//!
//! Names are camelCase. Enumerations are their names without prefix, camel-cased (`"Running"`, `"LatencyCritical"`).
//! 64-bit integers are numbers. Bytes are base64. What is `optional` and absent is left out; all else is there, even
//! where it is empty, so that a program need not ask.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_proto::{DESCRIPTORS, v1};
use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, MapKey, ReflectMessage, Value,
};
use serde_json::{Map, Value as Json};
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the descriptors were encoded by the build of berth-proto")
});

/// A message that knows its type's name.
pub(crate) trait Wire: Message {
    /// The name in package `berth.v1`.
    const NAME: &'static str;
}

macro_rules! wire {
    ($($name:ident),* $(,)?) => {
        $(impl Wire for v1::$name {
            const NAME: &'static str = stringify!($name);
        })*
    };
}

wire! {
    AddressLease, AddressPool, AddressTenure, DeletePoolResponse, Event, Finding, GetCgroupResponse,
    ListPoolsResponse, LocalDisk, LocalImage, LocalOrder, LocalPod, Migration, NodeFacts, NodeRecord, NodeStatus,
    NodeTopology, OrderRecord, Outcome, Pod,
    PodEvent, PodRequest, PullImageResponse, ReleasePodResponse, Rollout, Tenure,
}

/// `message` as JSON.
///
/// # Panics
/// When the descriptors do not know the message: they are built from the same files as its type.
pub(crate) fn to_json<M: Wire>(message: &M) -> Json {
    let name = format!("berth.v1.{}", M::NAME);
    let descriptor = POOL.get_message_by_name(&name).unwrap_or_else(|| panic!("{name} is no message"));
    let decoded = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice());
    of_message(&decoded.unwrap_or_else(|error| panic!("message is no {name}: {error}")))
}

/// JSON over several lines, for people to read, too.
pub(crate) fn pretty(json: &Json) -> String {
    format!("{json:#}")
}

fn of_message(message: &DynamicMessage) -> Json {
    let mut object = Map::new();
    for field in message.descriptor().fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        object.insert(field.json_name().to_owned(), of_value(&value, &field));
    }
    Json::Object(object)
}

fn of_value(value: &Value, field: &FieldDescriptor) -> Json {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::I64(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        Value::U64(value) => (*value).into(),
        Value::F32(value) => (*value).into(),
        Value::F64(value) => (*value).into(),
        Value::String(value) => value.as_str().into(),
        // As JSON of protocol buffers has it (RFC 4648).
        Value::Bytes(value) => STANDARD.encode(value).into(),
        Value::EnumNumber(number) => {
            field.kind().as_enum().map_or_else(|| (*number).into(), |kind| enum_name(kind, *number).into())
        }
        Value::Message(message) => of_message(message),
        Value::List(values) => values.iter().map(|value| of_value(value, field)).collect(),
        Value::Map(entries) => of_map(entries, field),
    }
}

fn of_map(entries: &std::collections::HashMap<MapKey, Value>, field: &FieldDescriptor) -> Json {
    let kind = field.kind();
    let value_field = kind.as_message().map(|entry| entry.map_entry_value_field());
    let of_entry = |(key, value): (&MapKey, &Value)| {
        let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
        (key, of_value(value, value_field.as_ref().unwrap_or(field)))
    };
    Json::Object(entries.iter().map(of_entry).collect())
}

/// `POD_STATE_RUNNING` of `PodState` is `Running`; a number that this version does not know is `Unknown(7)`.
fn enum_name(kind: &EnumDescriptor, number: i32) -> String {
    let Some(value) = kind.get_value(number) else {
        return format!("Unknown({number})");
    };
    let words = |name: &str| -> Vec<String> { name.split('_').map(capitalised).collect() };
    let name = words(value.name()).concat();
    name.strip_prefix(kind.name()).map_or(name.clone(), str::to_owned)
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_complete_and_absent_differs_from_empty() {
        let pool = v1::AddressPool { name: "blue".to_owned(), size: u64::MAX, ..Default::default() };
        let expected = json!({ "name": "blue", "network": "", "first": "", "last": "", "size": u64::MAX, "assigned": 0 });
        assert_eq!(to_json(&pool), expected);
    }

    #[test]
    fn enumerations_oneofs_and_maps() {
        let facts =
            v1::NodeFacts { labels: [("rack".to_owned(), "r1".to_owned())].into(), ..Default::default() };
        assert_eq!(to_json(&facts)["labels"], json!({ "rack": "r1" }));
        let done = v1::Outcome { outcome: Some(v1::outcome::Outcome::Done(v1::outcome::Done {})) };
        assert_eq!(to_json(&done), json!({ "done": {} }));
        let request = v1::PodRequest { class: v1::AppClass::LatencyCritical.into(), ..Default::default() };
        assert_eq!(to_json(&request)["class"], "LatencyCritical");
        let record = v1::NodeRecord { state: 99, ..Default::default() };
        assert_eq!(to_json(&record)["state"], "Unknown(99)");
        let finding = v1::Finding { level: v1::finding::Level::Error.into(), ..Default::default() };
        assert_eq!(to_json(&finding)["level"], "Error");
    }

    #[test]
    fn every_message_of_the_wire_can_be_shown() {
        for descriptor in POOL.all_messages().filter(|message| message.package_name() == "berth.v1") {
            let json = of_message(&DynamicMessage::new(descriptor.clone()));
            assert!(json.is_object(), "{}", descriptor.full_name());
        }
    }
}
