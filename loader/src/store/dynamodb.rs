//! DynamoDB, or a store that speaks its protocol: a table looked at, one item put on a condition, some
//! items put at once.
//!
//! The SDK's own retries are off, as S3's are: the caller retries with its own back-off, and counts
//! what was throttled. What was written stands nowhere: [`crate::items`] says why to write an item
//! twice changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeValue, KeyType, PutRequest, ScalarAttributeType, TableDescription, TableStatus,
    WriteRequest,
};
use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::items::attributes::attributes;
use crate::items::{ORDER, TableFile};
use crate::metrics::{Requests, Sink};
use crate::store::counted::Counted;
use crate::store::{Retries, StoreError, aws};

/// An item is put where there is none of its key, or an earlier one.
const LATER: &str = "attribute_not_exists(#order) OR #order < :order";

/// How to reach DynamoDB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DynamoSettings {
    /// Another endpoint than AWS's.
    pub endpoint: Option<String>,
    /// Region; from the environment or the profile where absent.
    pub region: Option<String>,
    /// How long it may take to answer a request.
    pub timeout: Duration,
    /// Memory of requests that are under way, over all partitions, bytes.
    pub under_way: u64,
}

/// DynamoDB. Nothing is asked of it before the first call.
#[derive(Debug)]
pub struct DynamoDb {
    settings: DynamoSettings,
    requests: Requests,
    client: OnceCell<Client>,
    /// KiB of memory that requests may still take.
    room: Semaphore,
    /// All of it.
    room_kib: u32,
}

/// What came of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    Written,
    /// The same or a later one is there.
    Superseded,
}

/// Why something was not written.
#[derive(Debug)]
pub enum PutError {
    /// More than the table's or the account's capacity; it may well work later.
    Throttled(String),
    /// Another failure.
    Other(StoreError),
}

impl DynamoDb {
    /// A client to be, with credentials from the environment as AWS's tools find them. What it asks is counted
    /// in `requests`.
    pub fn new(settings: DynamoSettings, requests: Requests) -> Self {
        let kib = settings.under_way / 1024;
        let room_kib = u32::try_from(kib).unwrap_or(u32::MAX).max(1);
        Self {
            settings,
            requests,
            client: OnceCell::new(),
            room: Semaphore::new(usize::try_from(room_kib).unwrap_or(Semaphore::MAX_PERMITS)),
            room_kib,
        }
    }

    /// Waits for room in memory for a request, about; one that takes more than there is gets all of it, and
    /// goes alone. It is given back where what is returned goes.
    ///
    /// # Errors
    /// Never, while this is there.
    pub async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, StoreError> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.acquire_many(kib.min(self.room_kib)).await;
        room.map_err(|error| StoreError::Later(error.to_string()))
    }

    async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| connect(&self.settings, &self.requests))
            .await
    }

    /// Whether a table is there and its key is the one that items will have.
    ///
    /// # Errors
    /// See [`StoreError`]; what has to be changed is said.
    pub async fn check(&self, table: &TableFile) -> Result<(), StoreError> {
        let request = self.client().await.describe_table().table_name(&table.name);
        let described = request
            .send()
            .await
            .map_err(|error| failed("describe", &table.name, &error))?;
        let described = described.table.ok_or_else(|| {
            StoreError::Later(format!("table {} was described by nothing", table.name))
        })?;
        fits(table, &described)
    }

    /// Puts an item, unless the same or a later one of its key is there.
    ///
    /// # Errors
    /// See [`PutError`].
    pub async fn put_later(&self, table: &str, item: &[u8]) -> Result<Put, PutError> {
        let item = attributes(item).map_err(|error| no_item(table, &error))?;
        let order = item.get(ORDER).cloned();
        let order = order.unwrap_or_else(|| AttributeValue::S(String::new()));
        let request = self.client().await.put_item().table_name(table);
        let put = request
            .set_item(Some(item))
            .condition_expression(LATER)
            .expression_attribute_names("#order", ORDER)
            .expression_attribute_values(":order", order)
            .send()
            .await;
        match put {
            Ok(_) => Ok(Put::Written),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => {
                Ok(Put::Superseded)
            }
            Err(error) => Err(put_failed(table, &error)),
        }
    }

    /// Puts items of different keys, at most 25 and 16 MB. Returns the places of those that DynamoDB
    /// left undone.
    ///
    /// # Errors
    /// See [`PutError`]; some may have been written.
    pub async fn put_some(&self, table: &str, items: &[Bytes]) -> Result<Vec<usize>, PutError> {
        let mut requests = Vec::with_capacity(items.len());
        for item in items {
            let item = attributes(item).map_err(|error| no_item(table, &error))?;
            let put = PutRequest::builder().set_item(Some(item)).build();
            let put = put.map_err(|error| no_item(table, &error))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        let call = self.client().await.batch_write_item();
        let written = call.request_items(table, requests.clone()).send().await;
        let written = written.map_err(|error| put_failed(table, &error))?;
        let left = written.unprocessed_items.unwrap_or_default();
        let left = left.get(table).map_or(&[][..], Vec::as_slice);
        let place = |undone: &WriteRequest| {
            let undone = texts(undone);
            requests.iter().position(|asked| texts(asked) == undone)
        };
        // One that nobody asked for: all of them again, which harms nothing.
        let places: Option<Vec<usize>> = left.iter().map(place).collect();
        Ok(places.unwrap_or_else(|| (0..items.len()).collect()))
    }
}

/// A request's attributes that are texts. Its key is among them; numbers may come back written otherwise.
fn texts(request: &WriteRequest) -> BTreeMap<&str, &str> {
    let put = request.put_request.iter();
    put.flat_map(|put| &put.item)
        .filter_map(|(name, value)| Some((name.as_str(), value.as_s().ok()?.as_str())))
        .collect()
}

async fn connect(settings: &DynamoSettings, requests: &Requests) -> Client {
    let region = settings.region.as_deref();
    let shared = aws::config(region, settings.timeout, Retries::Caller).await;
    let mut config = aws_sdk_dynamodb::config::Builder::from(&shared)
        .interceptor(Counted::new(Sink::DynamoDb, requests));
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

/// Whether a table's key is the one that items will have.
fn fits(table: &TableFile, there: &TableDescription) -> Result<(), StoreError> {
    let name = &table.name;
    let refused = |problem: String| Err(StoreError::Refused(format!("table {name}: {problem}")));
    match &there.table_status {
        Some(TableStatus::Active | TableStatus::Updating) | None => {}
        Some(TableStatus::Creating) => {
            return Err(StoreError::Later(format!("table {name} is being created")));
        }
        Some(other) => return refused(format!("it is {other}, and cannot be written to")),
    }
    let key = |kind: KeyType| {
        let mut schema = there.key_schema().iter();
        let element = schema.find(|element| element.key_type == kind)?;
        Some(element.attribute_name.as_str())
    };
    let wanted = [
        (KeyType::Hash, Some(&table.partition_key)),
        (KeyType::Range, table.sort_key.as_ref()),
    ];
    for (kind, wanted) in wanted {
        let (is, wanted) = (key(kind.clone()), wanted.map(|key| key.name.as_str()));
        if is != wanted {
            let shown =
                |name: Option<&str>| name.map_or("none".to_owned(), |name| format!("{name:?}"));
            return refused(format!(
                "its {kind} key is {}, and the configuration's is {}: correct partition_key and sort_key of output.dynamodb.table, or make a table with that key",
                shown(is),
                shown(wanted)
            ));
        }
        let kind = there
            .attribute_definitions()
            .iter()
            .find(|attribute| Some(attribute.attribute_name.as_str()) == wanted);
        if let Some(kind) = kind.map(|attribute| &attribute.attribute_type)
            && *kind != ScalarAttributeType::S
        {
            return refused(format!(
                "its key {} has type {kind}, and keys are written as text: make a table whose key has type S",
                wanted.unwrap_or_default()
            ));
        }
    }
    match indexed(table, there) {
        Some(problem) => refused(problem),
        None => Ok(()),
    }
}

/// Keys of its indexes that are fields of rows. A field is of any type, and DynamoDB refuses an item
/// where a key of an index has another type than the index's, or is empty.
fn indexed(table: &TableFile, there: &TableDescription) -> Option<String> {
    let global = there.global_secondary_indexes().iter();
    let local = there.local_secondary_indexes().iter();
    let keys = global
        .map(|index| (index.index_name(), index.key_schema()))
        .chain(local.map(|index| (index.index_name(), index.key_schema())));
    let sort = table.sort_key.as_ref().map(|key| key.name.as_str());
    let own = [Some(table.partition_key.name.as_str()), sort, Some(ORDER)];
    keys.flat_map(|(index, keys)| keys.iter().map(move |key| (index, key)))
        .find(|(_, key)| !own.contains(&Some(key.attribute_name.as_str())))
        .map(|(index, key)| {
            format!(
                "its index {} has the key {:?}, which is a field of rows: a row where that is no text, or empty, would be refused for ever, and the partition stand still. Give the loader a table without that index, and fill the other from its stream",
                index.unwrap_or_default(),
                key.attribute_name
            )
        })
}

fn no_item(table: &str, error: &dyn std::error::Error) -> PutError {
    PutError::Other(StoreError::Refused(format!(
        "an item for table {table} cannot be read back: {error}"
    )))
}

fn put_failed<E>(table: &str, error: &SdkError<E>) -> PutError
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match error.code() {
        Some(
            code @ ("ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "RequestLimitExceeded"),
        ) => PutError::Throttled(format!("table {table} takes no more now: {code}")),
        _ => PutError::Other(failed("write to", table, error)),
    }
}

fn failed<E>(verb: &str, table: &str, error: &SdkError<E>) -> StoreError
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    let message = error.message().unwrap_or("no message");
    match (status, error.code()) {
        (_, Some("ResourceNotFoundException")) => StoreError::Refused(format!(
            "cannot {verb} table {table}: there is none of that name at this endpoint and region; make it, or correct output.dynamodb. A batch that was begun with an earlier configuration still wants that one's tables, at the endpoint and region that are set now"
        )),
        (
            _,
            Some(
                code @ ("AccessDeniedException"
                | "UnrecognizedClientException"
                | "InvalidSignatureException"),
            ),
        ) => StoreError::Refused(format!(
            "cannot {verb} table {table}: access denied ({code}); the credentials need dynamodb:DescribeTable, dynamodb:PutItem and dynamodb:BatchWriteItem there: {message}"
        )),
        (
            Some(400),
            Some(
                code @ ("ProvisionedThroughputExceededException"
                | "ThrottlingException"
                | "RequestLimitExceeded"
                | "TransactionConflictException"
                | "LimitExceededException"
                | "ExpiredTokenException"
                | "RequestExpired"),
            ),
        ) => StoreError::Later(format!("cannot {verb} table {table}: {code}")),
        (Some(status @ 400..500), code) => StoreError::Refused(format!(
            "cannot {verb} table {table}: {status} {}: {message}",
            code.unwrap_or("no code")
        )),
        (Some(status), code) => StoreError::Later(format!(
            "cannot {verb} table {table}: {status} {}",
            code.unwrap_or("no code")
        )),
        (None, _) => StoreError::Later(format!(
            "cannot {verb} table {table}: {}",
            DisplayErrorContext(error)
        )),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, GlobalSecondaryIndexDescription, KeySchemaElement,
    };

    use super::*;

    #[tokio::test]
    async fn requests_wait_for_room_and_a_large_one_goes_alone() {
        let tables = DynamoDb::new(
            DynamoSettings {
                under_way: 10 * 1024,
                ..DynamoSettings::default()
            },
            Requests::default(),
        );
        let soon = Duration::from_millis(20);
        let waits = async |bytes| {
            let room = tokio::time::timeout(soon, tables.room(bytes)).await;
            room.is_err()
        };
        let first = tables.room(6 * 1024).await.unwrap();
        assert!(!waits(2 * 1024).await);
        assert!(waits(4 * 1024).await, "only three are left");
        assert!(waits(1 << 30).await, "it wants all of it");
        drop(first);
        let alone = tables.room(1 << 30).await.unwrap();
        assert!(waits(1).await);
        drop(alone);
        assert!(!waits(9 * 1024).await);
    }

    fn described(keys: &[(&str, KeyType, &str)]) -> TableDescription {
        let mut table = TableDescription::builder().table_status(TableStatus::Active);
        for (name, kind, of) in keys {
            let key = KeySchemaElement::builder();
            let key = key.attribute_name(*name).key_type(kind.clone());
            let attribute = AttributeDefinition::builder().attribute_name(*name);
            table = table
                .key_schema(key.build().unwrap())
                .attribute_definitions(attribute.attribute_type((*of).into()).build().unwrap());
        }
        table.build()
    }

    #[test]
    fn an_index_whose_key_is_a_field_of_rows_is_refused() {
        let file: TableFile =
            toml::from_str("name='items'\nmode='latest'\npartition_key={name='pk',value='{a}'}")
                .unwrap();
        for (key, is_good) in [("hw_order", true), ("pk", true), ("status", false)] {
            let schema = KeySchemaElement::builder().attribute_name(key);
            let schema = schema.key_type(KeyType::Hash).build().unwrap();
            let index = GlobalSecondaryIndexDescription::builder()
                .index_name("by-it")
                .key_schema(schema)
                .build();
            let mut table = described(&[("pk", KeyType::Hash, "S")]);
            table.global_secondary_indexes = Some(vec![index]);
            assert_eq!(fits(&file, &table).is_ok(), is_good, "{key}");
        }
    }

    #[test]
    fn a_table_with_another_key_is_refused() {
        let file: TableFile = toml::from_str(
            "name='items'\nmode='latest'\npartition_key={name='pk',value='{a}'}\nsort_key={name='sk',value='{b}'}",
        )
        .unwrap();
        let (hash, range) = (KeyType::Hash, KeyType::Range);
        let good = [("sk", range.clone(), "S"), ("pk", hash.clone(), "S")];
        assert!(fits(&file, &described(&good)).is_ok());
        for (keys, word) in [
            (vec![("pk", hash.clone(), "S")], "RANGE key is none"),
            (
                vec![("id", hash.clone(), "S"), ("sk", range.clone(), "S")],
                "HASH key is \"id\"",
            ),
            (vec![("pk", hash, "S"), ("sk", range, "N")], "type N"),
        ] {
            let error = fits(&file, &described(&keys)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
