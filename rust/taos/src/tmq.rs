//! Subscriptions: a consumer of a topic, and the messages it gets.
//!
//! The owner of a consumer keeps how far it has read: offsets are never committed to the server, and every consumer
//! begins where it is told to by [`Consumer::seek`].
//!
//! The library's functions for subscriptions are looked up when [`Library::tmq`] is called, so a library without
//! them still serves everything else.

use crate::{
    Library, LoadError, Login, SqlError,
    api::{Api, Handle, RawAssignment, RawMeta, TmqFunctions},
    connection::{last_error, text_at},
};
use model::DataType;
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    ffi::{CStr, CString, c_char, c_int, c_void},
    fmt, ptr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// The most bytes of a consumer group's or a topic's name; the library cuts longer ones off without a word.
pub const MOST_NAME: usize = 192;

/// Names of the key for the connection timeout, over the versions of the library.
const CONNECT_TIMEOUT: [&str; 3] = [
    "connect.timeout",
    "td.connect.timeout",
    "connection.timeout",
];
/// Names of the key for the request timeout.
const REQUEST_TIMEOUT: [&str; 3] = [
    "request.timeout.ms",
    "td.request.timeout",
    "request.timeout",
];
/// Names of the key for the database.
const DATABASE: [&str; 2] = ["td.connect.database", "td.connect.db"];

impl Library {
    /// The library's functions for subscriptions.
    pub fn tmq(&self) -> Result<Tmq, LoadError> {
        // SAFETY: `Api` holds TDengine's client library, and `Tmq` holds `Api`.
        let functions = unsafe { TmqFunctions::look_up(&self.0.library) };
        let functions = functions.map_err(|function| LoadError::Function {
            place: self.0.place.clone(),
            function,
        })?;
        Ok(Tmq(Arc::new(Shared {
            api: self.0.clone(),
            functions,
            refused: Mutex::default(),
        })))
    }
}

struct Shared {
    api: Arc<Api>,
    functions: TmqFunctions,
    /// Keys that the library does not know: each is logged once.
    refused: Mutex<BTreeSet<String>>,
}

/// A library that can subscribe.
#[derive(Clone)]
pub struct Tmq(Arc<Shared>);

impl fmt::Debug for Tmq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tmq")
    }
}

/// How a consumer is set up.
#[derive(Debug, Clone, Default)]
pub struct ConsumerConfig {
    /// Where to connect, and as whom.
    pub login: Login,
    /// The consumer group; at most [`MOST_NAME`] bytes without `:`.
    pub group: String,
    /// The database, for libraries that want to know it.
    pub database: Option<String>,
    /// How long connecting and a request may take, where the library has a key for it.
    pub timeout: Duration,
    /// The key for the connection timeout; it is tried before those known.
    pub connect_timeout_key: Option<String>,
    /// The key for the request timeout, likewise.
    pub request_timeout_key: Option<String>,
}

impl Tmq {
    /// A consumer that is subscribed to nothing yet. It connects.
    pub fn consumer(&self, config: &ConsumerConfig) -> Result<Consumer, SqlError> {
        let conf = self.conf(config)?;
        let mut words = [0_u8; 512];
        // SAFETY: the configuration is live; the buffer is of the length given, and the library ends its text there.
        let handle = unsafe {
            (self.0.functions.consumer_new)(
                conf.handle,
                words.as_mut_ptr().cast::<c_char>(),
                words.len() as i32,
            )
        };
        if handle.is_null() {
            let words = words.split(|byte| *byte == 0).next().unwrap_or_default();
            let doing = format!(
                "making a consumer of group {:?}: {}",
                config.group,
                String::from_utf8_lossy(words)
            );
            return Err(last_error(&self.0.api, &doing));
        }
        Ok(Consumer {
            tmq: self.clone(),
            handle,
        })
    }

    fn conf(&self, config: &ConsumerConfig) -> Result<Conf<'_>, SqlError> {
        if config.group.len() > MOST_NAME || config.group.is_empty() || config.group.contains(':') {
            return Err(SqlError::local(format!(
                "consumer group {:?}: give a name of 1 to {MOST_NAME} bytes without a colon",
                config.group
            )));
        }
        // SAFETY: it takes nothing.
        let handle = unsafe { (self.0.functions.conf_new)() };
        if handle.is_null() {
            return Err(last_error(&self.0.api, "configuring a consumer"));
        }
        let conf = Conf {
            tmq: &self.0,
            handle,
        };
        let login = &config.login;
        let port = (login.port != 0).then(|| login.port.to_string());
        let required = [
            ("group.id", Some(config.group.as_str())),
            ("client.id", Some("incremental_bitmap")),
            ("td.connect.ip", login.host.as_deref()),
            ("td.connect.port", port.as_deref()),
            ("td.connect.user", login.user.as_deref()),
            ("td.connect.pass", login.password.as_deref()),
            ("enable.auto.commit", Some("false")),
            ("auto.offset.reset", Some("earliest")),
            ("msg.with.table.name", Some("true")),
        ];
        for (key, value) in required {
            if let Some(value) = value
                && conf.set(key, value)? != 0
            {
                return Err(SqlError::local(format!(
                    "{} refuses the setting {key} of a consumer; use a client of TDengine 3.3",
                    self.0.api.place
                )));
            }
        }
        let timeout = config.timeout.as_millis().to_string();
        conf.set_first_known(
            config.connect_timeout_key.as_deref(),
            &CONNECT_TIMEOUT,
            &timeout,
        )?;
        conf.set_first_known(
            config.request_timeout_key.as_deref(),
            &REQUEST_TIMEOUT,
            &timeout,
        )?;
        if let Some(database) = &config.database {
            conf.set_first_known(None, &DATABASE, database)?;
        }
        Ok(conf)
    }

    fn check(&self, code: i32, doing: &str) -> Result<(), SqlError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the library returns a text that lives until the thread's next call.
        let text = unsafe { text_at((self.0.functions.err2str)(code)) };
        Err(SqlError {
            code: code as u32,
            text,
            sql: None,
        }
        .in_sql(doing))
    }
}

/// A `tmq_conf_t`.
struct Conf<'t> {
    tmq: &'t Shared,
    handle: Handle,
}

impl Conf<'_> {
    /// The library's answer: 0 taken, -1 a bad value, -2 an unknown key.
    fn set(&self, key: &str, value: &str) -> Result<c_int, SqlError> {
        let text = |text: &str| {
            CString::new(text)
                .map_err(|_| SqlError::local(format!("{key} of a consumer holds a NUL")))
        };
        let (key, value) = (text(key)?, text(value)?);
        // SAFETY: the configuration is live, the texts NUL-terminated; the library copies them.
        Ok(unsafe { (self.tmq.functions.conf_set)(self.handle, key.as_ptr(), value.as_ptr()) })
    }

    /// Sets the first of the keys that the library takes. Each that it refuses is logged, once.
    fn set_first_known(
        &self,
        first: Option<&str>,
        keys: &[&str],
        value: &str,
    ) -> Result<(), SqlError> {
        for key in first.iter().chain(keys) {
            if self.tmq.refused.lock().contains(*key) {
                continue;
            }
            if self.set(key, value)? == 0 {
                return Ok(());
            }
            self.tmq.refused.lock().insert((*key).to_owned());
            tracing::info!(
                key,
                library = self.tmq.api.place,
                "the client library refuses this key of a consumer; it is left out"
            );
        }
        Ok(())
    }
}

impl Drop for Conf<'_> {
    fn drop(&mut self) {
        // SAFETY: the configuration is live and destroyed once.
        unsafe { (self.tmq.functions.conf_destroy)(self.handle) }
    }
}

/// What a vgroup's log holds, and where the consumer stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The vgroup.
    pub vgroup: i32,
    /// The offset that the consumer reads next.
    pub current: i64,
    /// The first version in the log.
    pub begin: i64,
    /// The version after the last one in the log.
    pub end: i64,
}

/// A consumer. Closed when dropped.
pub struct Consumer {
    tmq: Tmq,
    handle: Handle,
}

// SAFETY: the library locks its consumers; one may be used from any thread, one thread at a time.
unsafe impl Send for Consumer {}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumer")
    }
}

impl Consumer {
    /// Subscribes to one topic. Waits until the server is ready for that.
    pub fn subscribe(&self, topic: &str) -> Result<(), SqlError> {
        let doing = format!("subscribing to topic {topic:?}");
        let name = topic_name(topic)?;
        let functions = &self.tmq.0.functions;
        // SAFETY: the list is live until it is destroyed, the name NUL-terminated and copied.
        let code = unsafe {
            let list = (functions.list_new)();
            if list.is_null() {
                return Err(last_error(&self.tmq.0.api, &doing));
            }
            let mut code = (functions.list_append)(list, name.as_ptr());
            if code == 0 {
                code = (functions.subscribe)(self.handle, list);
            }
            (functions.list_destroy)(list);
            code
        };
        self.tmq.check(code, &doing)
    }

    /// The next message, if one comes in time.
    pub fn poll(&self, timeout: Duration) -> Result<Option<Message<'_>>, SqlError> {
        let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let api = &self.tmq.0.api;
        // SAFETY: the consumer is live; `Message` frees the result. Null asks for the thread's last error.
        unsafe {
            let result = (self.tmq.0.functions.consumer_poll)(self.handle, timeout);
            if !result.is_null() {
                return Ok(Some(Message {
                    tmq: &self.tmq,
                    result,
                }));
            }
            match (api.errno)(ptr::null_mut()) {
                0 => Ok(None),
                _ => Err(last_error(api, "polling")),
            }
        }
    }

    /// The vgroups that the consumer serves. Before the first [`Self::seek`] the numbers come from the server, later
    /// they are those of the last answers to polls.
    pub fn assignment(&self, topic: &str) -> Result<Vec<Assignment>, SqlError> {
        let name = topic_name(topic)?;
        let functions = &self.tmq.0.functions;
        let mut raw: *mut RawAssignment = ptr::null_mut();
        let mut count = 0;
        // SAFETY: the consumer is live, the name NUL-terminated, both places are ours.
        let code = unsafe {
            (functions.topic_assignment)(self.handle, name.as_ptr(), &raw mut raw, &raw mut count)
        };
        self.tmq
            .check(code, &format!("asking for the vgroups of topic {topic:?}"))?;
        let count = usize::try_from(count).unwrap_or(0);
        if raw.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: the library says that there are so many; they are copied, then freed once.
        let assignments = unsafe {
            let all = std::slice::from_raw_parts(raw, count);
            let all = all.iter().map(|raw| Assignment {
                vgroup: raw.vgroup,
                current: raw.current,
                begin: raw.begin,
                end: raw.end,
            });
            let all = all.collect();
            (functions.free_assignment)(raw);
            all
        };
        Ok(assignments)
    }

    /// Goes to an offset of a vgroup. Only after [`Self::assignment`].
    pub fn seek(&self, topic: &str, vgroup: i32, offset: i64) -> Result<(), SqlError> {
        let name = topic_name(topic)?;
        // SAFETY: the consumer is live, the name NUL-terminated.
        let code = unsafe {
            (self.tmq.0.functions.offset_seek)(self.handle, name.as_ptr(), vgroup, offset)
        };
        self.tmq.check(
            code,
            &format!("going to offset {offset} of vgroup {vgroup} of topic {topic:?}"),
        )
    }

    /// The offset that is read next: everything before it was polled.
    pub fn position(&self, topic: &str, vgroup: i32) -> Result<i64, SqlError> {
        let name = topic_name(topic)?;
        // SAFETY: the consumer is live, the name NUL-terminated.
        let position =
            unsafe { (self.tmq.0.functions.position)(self.handle, name.as_ptr(), vgroup) };
        if position < 0 {
            let doing = format!("asking for the position in vgroup {vgroup} of topic {topic:?}");
            self.tmq.check(position as i32, &doing)?;
        }
        Ok(position)
    }
}

fn topic_name(topic: &str) -> Result<CString, SqlError> {
    CString::new(topic).map_err(|_| SqlError::local(format!("topic {topic:?} holds a NUL")))
}

/// How long a close may keep its caller waiting. Without a server, the library takes minutes.
const CLOSE: Duration = Duration::from_secs(5);

/// The wait before a close that failed is tried again.
const CLOSE_AGAIN: Duration = Duration::from_secs(1);

/// A handle on its way to the thread that closes it.
struct Closing(Handle);

// SAFETY: as for `Consumer`.
unsafe impl Send for Closing {}

impl Drop for Consumer {
    fn drop(&mut self) {
        let closing = Closing(self.handle);
        let tmq = self.tmq.clone();
        let (done, wait) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("tmq-close".to_owned())
            .spawn(move || {
                let Closing(handle) = { closing };
                // A consumer that could not tell the server goes on with its heartbeat, and keeps its group occupied.
                // SAFETY: the consumer is live until it is closed, and then not used any more.
                while unsafe { (tmq.0.functions.consumer_close)(handle) } != 0 {
                    thread::sleep(CLOSE_AGAIN);
                }
                // The thread that dropped the consumer may have given up waiting.
                let _ = done.send(());
            });
        // Without a thread it stays open; the server forgets it when its heartbeat ends.
        if thread.is_ok() {
            let _ = wait.recv_timeout(CLOSE);
        }
    }
}

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Rows.
    Data,
    /// A change of a table, or a delete.
    Meta,
    /// Rows, and the tables that they created.
    DataAndMeta,
    /// Something that this version does not know.
    Other(i32),
}

/// The rows of one table, or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The table's name.
    pub table: String,
    /// The first column: a timestamp in ticks of the database's precision. Empty if the library can't read the rows:
    /// no request writes none.
    pub keys: Vec<i64>,
    /// How many bytes the rows take, as they came.
    pub bytes: u64,
}

/// A message. Freed when dropped.
pub struct Message<'c> {
    tmq: &'c Tmq,
    result: Handle,
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind())
            .field("vgroup", &self.vgroup())
            .finish_non_exhaustive()
    }
}

impl Message<'_> {
    fn functions(&self) -> &TmqFunctions {
        &self.tmq.0.functions
    }

    /// What it holds.
    pub fn kind(&self) -> MessageKind {
        // SAFETY: the message is live.
        match unsafe { (self.functions().res_type)(self.result) } {
            1 => MessageKind::Data,
            2 => MessageKind::Meta,
            3 => MessageKind::DataAndMeta,
            other => MessageKind::Other(other),
        }
    }

    /// The vgroup it comes from.
    pub fn vgroup(&self) -> i32 {
        // SAFETY: the message is live.
        unsafe { (self.functions().vgroup_id)(self.result) }
    }

    /// The next block of rows.
    pub fn next_block(&mut self) -> Result<Option<Block>, SqlError> {
        // SAFETY: the message is live. After a fetch the name is that of the block; it is null behind the last one,
        // where a fetch also finds no rows.
        unsafe {
            let mut columns: *const *const c_void = ptr::null();
            let rows = (self.functions().fetch_block)(self.result, &raw mut columns);
            let name = (self.functions().table_name)(self.result);
            let rows = usize::try_from(rows).unwrap_or(0);
            if name.is_null() {
                return match rows {
                    0 => Ok(None),
                    _ => Err(SqlError::local("a message has rows without a table name")),
                };
            }
            let table = CStr::from_ptr(name).to_str().map(str::to_owned);
            let table =
                table.map_err(|_| SqlError::local("a message's table name is not UTF-8"))?;
            let (keys, bytes) = match rows {
                0 => (Vec::new(), 0),
                _ => (self.keys(rows, columns)?, self.bytes(rows, columns)),
            };
            Ok(Some(Block { table, keys, bytes }))
        }
    }

    /// # Safety
    /// The current block has so many rows in these columns.
    unsafe fn keys(
        &self,
        rows: usize,
        columns: *const *const c_void,
    ) -> Result<Vec<i64>, SqlError> {
        let api = &self.tmq.0.api;
        // SAFETY: the message is live; there are as many fields and columns as it says, and a timestamp column is an
        // array of i64 that need not be aligned.
        unsafe {
            let fields = (api.fetch_fields)(self.result);
            let is_key = (api.num_fields)(self.result) > 0
                && !fields.is_null()
                && DataType::from_code((*fields).data_type) == Some(DataType::Timestamp);
            if !is_key || columns.is_null() || (*columns).is_null() {
                return Err(SqlError::local(
                    "a message's rows do not begin with a timestamp column",
                ));
            }
            let keys = (*columns).cast::<i64>();
            Ok((0..rows)
                .map(|row| keys.add(row).read_unaligned())
                .collect())
        }
    }

    /// The bytes of the current block's values. Those of a column of variable length follow each other, so the last one's
    /// end says it.
    ///
    /// # Safety
    /// As for [`Self::keys`].
    unsafe fn bytes(&self, rows: usize, columns: *const *const c_void) -> u64 {
        let api = &self.tmq.0.api;
        // SAFETY: the message is live; there are as many fields and columns as it says. A column of variable length has
        // an offset for each row, below 0 for NULL, where its length stands as u16 before the value.
        unsafe {
            let fields = (api.fetch_fields)(self.result);
            let count = usize::try_from((api.num_fields)(self.result)).unwrap_or(0);
            (0..count)
                .map(|column| {
                    let field = fields.add(column);
                    let offsets = (self.functions().column_offsets)(self.result, column as c_int);
                    if offsets.is_null() {
                        return rows as u64 * u64::try_from((*field).bytes).unwrap_or(0);
                    }
                    let offsets = std::slice::from_raw_parts(offsets, rows);
                    let values = (*columns.add(column)).cast::<u8>();
                    let last = offsets
                        .iter()
                        .max()
                        .and_then(|last| usize::try_from(*last).ok());
                    match last {
                        Some(last) if !values.is_null() => {
                            let length = values.add(last).cast::<u16>().read_unaligned();
                            last as u64 + 2 + u64::from(length)
                        }
                        _ => 0,
                    }
                })
                .sum()
        }
    }

    /// A [`MessageKind::Meta`] message as it stands in the server's log: the record's type and body.
    pub fn log_record(&self) -> Result<(i16, Vec<u8>), SqlError> {
        if self.kind() != MessageKind::Meta {
            return Err(SqlError::local(
                "only a meta message is a record of the log",
            ));
        }
        let mut raw = RawMeta {
            bytes: ptr::null(),
            length: 0,
            message_type: 0,
        };
        // SAFETY: the message is live, the place ours.
        let code = unsafe { (self.functions().raw)(self.result, &raw mut raw) };
        self.tmq.check(code, "reading a meta message")?;
        let body = match raw.bytes.is_null() {
            true => &[][..],
            // SAFETY: the library says that so many bytes are there; of a meta message they are the message's own.
            false => unsafe {
                std::slice::from_raw_parts(raw.bytes.cast::<u8>(), raw.length as usize)
            },
        };
        Ok((raw.message_type as i16, body.to_vec()))
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        // SAFETY: the message is live and freed once.
        unsafe { (self.tmq.0.api.free_result)(self.result) }
    }
}
