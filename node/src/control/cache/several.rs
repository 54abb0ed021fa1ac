//! Several entries: `/cache?keys=a,b,c`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use corelane_protocol::{Reply, Request, RequestHead, Status};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::answer::{Problem, json};
use super::gateway::{Batch, Gateway};
use super::key;
use super::limits::KEYS_MAX;

/// `GET`. The values are not read at one moment.
pub(super) async fn read(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = key::parameter(uri.query(), "keys").filter(|list| !list.is_empty());
    let list = list.ok_or(Problem::BadRequest("give keys=a,b,c in the query"))?;
    let mut found = Found { keys: Vec::new(), values: Vec::new() };
    for key in key::list(list) {
        if found.keys.len() == KEYS_MAX {
            return Err(Problem::BadRequest("a request takes at most 1024 keys"));
        }
        let key = String::from_utf8(key?);
        let key = key.map_err(|_| Problem::BadRequest("keys of a list must be UTF-8"))?;
        found.keys.push(key);
    }
    found.keys.sort();
    found.keys.dedup();
    found.values.resize(found.keys.len(), None);

    let mut batches: BTreeMap<u16, Batch> = BTreeMap::new();
    for (number, key) in (0..).zip(&found.keys) {
        let request = Request::Get { key: key.as_bytes(), least_version: None };
        let batch = match batches.entry(gateway.core_of(key.as_bytes())?) {
            Entry::Vacant(vacant) => vacant.insert(Batch::default()),
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        batch.push(number, RequestHead::default(), &request);
    }
    let bytes_max = gateway.value_bytes_max();
    let _room = gateway.room(bytes_max).await;
    let mut left = bytes_max;
    for (core, batch) in batches {
        let each = |number: u32, reply: Reply<'_>| {
            let value = match reply {
                Reply::Value(value) => value.bytes,
                Reply::Failed { status: Status::NotFound, .. } => return Ok(()),
                other => return Err(Problem::from(&other)),
            };
            let too_long = "the values are longer together than the longest value: ask for fewer";
            left = left.checked_sub(value.len()).ok_or(Problem::BadRequest(too_long))?;
            let text = str::from_utf8(value).map_err(|_| Problem::NotAcceptable)?;
            found.values[number as usize] = Some(text.to_owned());
            Ok(())
        };
        gateway.exchange(core, batch, each).await?;
    }
    Ok(json(&found).into_response())
}

/// Keys and what was found under each, as one object.
struct Found {
    keys: Vec<String>,
    values: Vec<Option<String>>,
}

impl Serialize for Found {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.keys.len()))?;
        for (key, value) in self.keys.iter().zip(&self.values) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
