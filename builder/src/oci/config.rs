//! An image's configuration, edited in place so that fields that nobody here knows stay as they are (cnb §5.2, §5.7).

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::model::digest::DiffId;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::timestamp::Timestamp;
use crate::oci::json::canonical_bytes;

/// An image's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig(Map<String, Value>);

/// Why bytes are no configuration of an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The bytes are no JSON object.
    #[error("the image configuration is no JSON object: {0}")]
    Json(String),
    /// A field has another type than the OCI image spec gives it.
    #[error("the image configuration's `{0}` is malformed")]
    Field(&'static str),
}

impl Failure for ConfigError {
    fn facts(&self) -> Facts {
        Facts::platform("image_config_malformed")
    }
}

impl ImageConfig {
    /// The configuration of an image without layers.
    pub fn empty(os: &str, architecture: &str) -> Self {
        let value = json!({
            "architecture": architecture,
            "config": {},
            "history": [],
            "os": os,
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        Self(value.as_object().cloned().unwrap_or_default())
    }

    /// Reads a configuration and checks the fields that are used here.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let fields: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| ConfigError::Json(error.to_string()))?;
        let mut config = Self(fields);
        for (name, is_right) in [
            ("config", is_absent_or(config.0.get("config"), Value::is_object)),
            ("config.Env", is_absent_or(config.setting("Env"), is_texts)),
            (
                "config.Labels",
                is_absent_or(config.setting("Labels"), is_text_map),
            ),
            ("history", is_absent_or(config.0.get("history"), Value::is_array)),
            ("rootfs", config.0.get("rootfs").is_some_and(Value::is_object)),
        ] {
            if !is_right {
                return Err(ConfigError::Field(name));
            }
        }
        config.diff_ids()?;
        // `null` is Go's way to write nothing.
        config.0.retain(|_, value| !value.is_null());
        Ok(config)
    }

    /// The canonical bytes: these are what the manifest names.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical_bytes(&Value::Object(self.0.clone()))
    }

    /// Every field as it stands.
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The operating system and the architecture.
    pub fn platform(&self) -> (&str, &str) {
        let text = |key| self.0.get(key).and_then(Value::as_str).unwrap_or("");
        (text("os"), text("architecture"))
    }

    /// The layers' diffIDs, the lowest first.
    pub fn diff_ids(&self) -> Result<Vec<DiffId>, ConfigError> {
        let malformed = ConfigError::Field("rootfs.diff_ids");
        let ids = match self.0.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(ids) => ids.as_array().ok_or(ConfigError::Field("rootfs.diff_ids"))?,
        };
        let parsed = ids.iter().map(|id| id.as_str().and_then(|id| id.parse().ok()));
        parsed.collect::<Option<_>>().ok_or(malformed)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.setting("Labels")?.get(key)?.as_str()
    }

    /// Sets a label; one that is there is replaced.
    pub fn set_label(&mut self, key: &str, value: &str) {
        object(self.settings(), "Labels").insert(key.to_owned(), value.into());
    }

    /// The environment as `NAME=VALUE`, in order.
    pub fn env(&self) -> Vec<&str> {
        self.setting("Env")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// A variable's value; it may hold `=` itself.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        self.env()
            .into_iter()
            .find_map(|variable| value_of(variable, name))
    }

    /// Sets a variable: in its place if it is there, else at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let variable = Value::from(format!("{name}={value}"));
        let variables = array(self.settings(), "Env");
        let place = variables
            .iter()
            .position(|old| old.as_str().is_some_and(|old| value_of(old, name).is_some()));
        match place {
            Some(place) => variables[place] = variable,
            None => variables.push(variable),
        }
    }

    /// Sets what is run. The command is removed: it would become arguments.
    pub fn set_entrypoint(&mut self, words: &[&str]) {
        self.settings().insert("Entrypoint".to_owned(), json!(words));
        self.settings().remove("Cmd");
    }

    /// Sets the folder that processes start in.
    pub fn set_working_directory(&mut self, path: &str) {
        self.settings().insert("WorkingDir".to_owned(), path.into());
    }

    /// Sets the time of the image and of its whole history.
    pub fn set_created(&mut self, created: Timestamp) {
        let created = Value::from(created.to_string());
        for entry in array(&mut self.0, "history") {
            if let Some(entry) = entry.as_object_mut() {
                entry.insert("created".to_owned(), created.clone());
            }
        }
        self.0.insert("created".to_owned(), created);
    }

    /// Makes the history one entry a layer: entries of no layer go; if the rest is not one a layer, all become blank.
    /// What named the machine that the base was made on goes too.
    pub fn normalise_base(&mut self) -> Result<(), ConfigError> {
        let layers = self.diff_ids()?.len();
        let is_layer = |entry: &Value| entry.get("empty_layer") != Some(&Value::Bool(true));
        let history = array(&mut self.0, "history");
        history.retain(|entry| entry.is_object() && is_layer(entry));
        if history.len() != layers {
            *history = vec![json!({}); layers];
        }
        for field in ["container", "container_config"] {
            self.0.remove(field);
        }
        self.settings().remove("Image");
        Ok(())
    }

    /// Puts a layer on top, with its entry in the history.
    pub fn push_layer(&mut self, diff_id: DiffId, created_by: &str) {
        let created = self.0.get("created").cloned();
        let mut entry = Map::from_iter([("created_by".to_owned(), Value::from(created_by))]);
        entry.extend(created.map(|created| ("created".to_owned(), created)));
        array(&mut self.0, "history").push(entry.into());
        array(object(&mut self.0, "rootfs"), "diff_ids").push(diff_id.to_string().into());
    }

    fn setting(&self, key: &str) -> Option<&Value> {
        self.0.get("config")?.get(key).filter(|value| !value.is_null())
    }

    fn settings(&mut self) -> &mut Map<String, Value> {
        object(&mut self.0, "config")
    }
}

/// The object under a key, which is made if there is none.
fn object<'map>(map: &'map mut Map<String, Value>, key: &str) -> &'map mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(members) => members,
        _ => unreachable!("the value was made an object above"),
    }
}

/// The list under a key, which is made if there is none.
fn array<'map>(map: &'map mut Map<String, Value>, key: &str) -> &'map mut Vec<Value> {
    let value = map.entry(key).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(items) => items,
        _ => unreachable!("the value was made a list above"),
    }
}

fn is_absent_or(value: Option<&Value>, check: impl Fn(&Value) -> bool) -> bool {
    value.is_none_or(|value| value.is_null() || check(value))
}

fn is_texts(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().all(Value::is_string))
}

fn is_text_map(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|members| members.values().all(Value::is_string))
}

fn value_of<'text>(variable: &'text str, name: &str) -> Option<&'text str> {
    variable
        .split_once('=')
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;

    const BASE: &str = r#"{"architecture":"amd64","os":"linux","docker_version":"20","container":"abc",
        "config":{"Env":["PATH=/bin","A=b=c"],"Cmd":["sh"],"Healthcheck":{"Test":["x"]},"Labels":null,"Image":"sha"},
        "rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
        "history":[{"created_by":"a"},{"created_by":"b","empty_layer":true}]}"#;

    #[test]
    fn edits_keep_what_they_do_not_know() {
        let mut config = ImageConfig::parse(BASE.as_bytes()).unwrap();
        config.normalise_base().unwrap();
        config.set_env("PATH", "/cnb:/bin");
        config.set_env("NEW", "1");
        assert_eq!(config.env_value("A"), Some("b=c"));
        config.set_label("k", "v");
        config.set_entrypoint(&["/cnb/process/web"]);
        config.set_working_directory("/workspace");
        config.push_layer(DiffId(Digest::of(b"x")), "Application Layer");
        config.set_created(Timestamp::BUILDPACKS);
        let value: Value = serde_json::from_slice(&config.to_bytes()).unwrap();
        assert_eq!(
            value["config"]["Env"],
            json!(["PATH=/cnb:/bin", "A=b=c", "NEW=1"])
        );
        assert_eq!(value["config"]["Healthcheck"], json!({"Test": ["x"]}));
        assert_eq!(value["docker_version"], "20");
        assert!(value["config"].get("Cmd").is_none() && value.get("container").is_none());
        assert_eq!(value["history"].as_array().unwrap().len(), 2);
        assert_eq!(value["history"][1]["created"], "1980-01-01T00:00:01Z");
        assert_eq!(config.diff_ids().unwrap().len(), 2);
        assert_eq!(
            ImageConfig::parse(&config.to_bytes()).unwrap().to_bytes(),
            config.to_bytes()
        );
    }

    #[test]
    fn a_history_that_does_not_fit_becomes_blank() {
        let mut config = ImageConfig::parse(BASE.replace(r#","empty_layer":true"#, "").as_bytes()).unwrap();
        config.normalise_base().unwrap();
        assert_eq!(config.as_json()["history"], json!([{}]));
    }

    #[test]
    fn malformed_configurations_are_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"rootfs":{"diff_ids":["x"]}}"#,
            r#"{"rootfs":{},"config":[]}"#,
        ] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(ImageConfig::parse(br#"{"rootfs":{},"config":{"Env":[1]}}"#).is_err());
    }
}
