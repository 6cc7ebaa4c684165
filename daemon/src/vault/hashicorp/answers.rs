//! Vault's JSON, as far as it is read. Secrets go into memory that is wiped.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::types::Secret;

/// Of `GET MOUNT/data/PATH`.
#[derive(Deserialize)]
pub(super) struct Kv {
    pub(super) data: KvVersion,
}

#[derive(Deserialize)]
pub(super) struct KvVersion {
    pub(super) data: Option<Fields>,
}

/// Of `GET MOUNT/creds/ROLE` and `PUT sys/leases/renew`.
#[derive(Deserialize)]
pub(super) struct Leased {
    #[serde(default)]
    pub(super) lease_id: String,
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    #[serde(default)]
    pub(super) data: Option<User>,
}

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) username: String,
    pub(super) password: Secret,
}

/// Of `POST auth/approle/login` and `auth/token/renew-self`.
#[derive(Deserialize)]
pub(super) struct LoggedIn {
    pub(super) auth: Auth,
}

#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: Secret,
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// The fields of a secret that are text.
#[derive(Default)]
pub(super) struct Fields(Vec<(String, Secret)>);

impl Fields {
    pub(super) fn into_inner(self, name: &str) -> Option<Secret> {
        let mut fields = self.0.into_iter();
        fields
            .find(|(field, _)| field == name)
            .map(|(_, secret)| secret)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(name) = map.next_key()? {
                    if let Value::Text(secret) = map.next_value()? {
                        fields.push((name, secret));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// A field's value; what is not text is not kept.
enum Value {
    Text(Secret),
    Other,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(Secret::new(text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_seq<S: serde::de::SeqAccess<'de>>(
                self,
                mut seq: S,
            ) -> Result<Value, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Value, M::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Of `sys/leases/renew` and `sys/leases/revoke`; the id is no secret.
pub(super) fn lease_body(id: &str) -> Vec<u8> {
    json!({ "lease_id": id }).to_string().into_bytes()
}
