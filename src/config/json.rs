//! Trees to and from JSON.

use serde_json::{Map, Number, Value as Json};

use super::{Node, Value};

impl Node {
    /// This tree as JSON. Numbers that are not finite become `null`, positions are lost, and
    /// keys are in the order of `serde_json`.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.text.clone(), node.to_json()));
                Json::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// The tree that `json` stands for, in no file.
    pub fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::new(Value::Null),
            Json::Bool(value) => Self::new(*value),
            Json::Number(number) => Self::new(match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            }),
            Json::String(text) => Self::new(text.as_str()),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json)),
            Json::Object(entries) => {
                Self::map(entries.iter().map(|(key, json)| (key.as_str(), Self::from_json(json))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_survives_the_way_there_and_back() {
        let text = r#"{"a":[1,-2.5,true,null,"x"],"b":{"c":9007199254740993,"d":1e300}}"#;
        let json: Json = serde_json::from_str(text).expect("valid JSON");
        assert_eq!(Node::from_json(&json).to_json(), json);
    }

    #[test]
    fn numbers_that_are_not_finite_become_null() {
        assert_eq!(Node::new(f64::NAN).to_json(), Json::Null);
    }
}
