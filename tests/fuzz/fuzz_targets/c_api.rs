#![no_main]
//! Every function of the C headers that takes bytes, text or an array: any of them gives a code, and no panic, which
//! this program does not survive.
//!
//! The first byte says what is called. Files are written below one directory only; the rest are looked for at most.
use incremental_bitmap::{header::*, *};
use libfuzzer_sys::fuzz_target;
use std::{
    ffi::{CString, c_char, c_void},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    ptr,
    sync::LazyLock,
};
use taosx_incremental_bitmap_plugin as taosx;

static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    // Settings of the process would be those of whoever runs this.
    tempfile::tempdir().expect("a directory for temporary files")
});

fn file(name: &str, bytes: &[u8]) -> (PathBuf, CString) {
    let path = DIR.path().join(name);
    fs::write(&path, bytes).expect("a temporary file");
    let c = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    (path, c)
}

/// Texts as C has them: up to the next NUL.
fn texts(data: &[u8]) -> Vec<CString> {
    data.split(|byte| *byte == 0)
        .map(|text| CString::new(text).expect("no NUL"))
        .collect()
}

/// The `n`th text, or NULL.
fn at(texts: &[CString], n: usize) -> *const c_char {
    texts.get(n).map_or(ptr::null(), |text| text.as_ptr())
}

fn numbers(data: &[u8]) -> Vec<u64> {
    let words = data.chunks_exact(8);
    words
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect()
}

/// SAFETY of all of it: every pointer is NULL or to what the header asks for.
unsafe fn plugin(data: &[u8]) {
    let plugin = unsafe { &*backup_plugin_get_interface() };
    let (_, json) = file("plugin.json", data);
    let (_, toml) = file("plugin.toml", data);
    let texts = texts(data);
    let inline = texts.first().filter(|text| {
        let text = text.to_str().unwrap_or_default();
        text.trim_start().starts_with('{')
    });
    for config in [Some(&json), Some(&toml), inline].into_iter().flatten() {
        unsafe {
            if (plugin.init.expect("init"))(config.as_ptr()) == ERR_SUCCESS {
                let (mut blocks, mut count) = (ptr::null_mut(), 0);
                let since = data.len() as i64 - 10;
                let detect = plugin.detect_incremental_blocks.expect("detect");
                detect(at(&texts, 1), since, &raw mut blocks, &raw mut count);
                (plugin.export_blocks.expect("export"))(blocks, count, ptr::null());
                (plugin.free_blocks.expect("free"))(blocks, count);
                (plugin.restore_blocks.expect("restore"))(at(&texts, 2), at(&texts, 1));
                (plugin.get_plugin_name.expect("name"))();
            }
            (plugin.error.expect("error"))();
            (plugin.destroy.expect("destroy"))();
        }
    }
}

unsafe fn backup_tool(data: &[u8]) {
    let texts = texts(data);
    let (_, script) = file("script.sh", b"");
    let number = |n: usize| data.get(n).copied().unwrap_or(0);
    let config = SIncrementalBackupConfig {
        source_host: at(&texts, 0),
        source_port: i32::from(number(0)) * 300 - 100,
        database: at(&texts, 1),
        backup_path: at(&texts, 2),
        bitmap_cache_path: at(&texts, 3),
        since_timestamp: i64::from(number(1)) - 5,
        batch_size: u32::from(number(2)) * 8,
        enable_compression: number(3) % 2 == 0,
        enable_encryption: number(4) == 0,
    };
    unsafe {
        let tool = incremental_backup_tool_create(&raw const config);
        incremental_backup_tool_generate_taosdump_script(tool, script.as_ptr());
        incremental_backup_tool_start(tool);
        incremental_backup_tool_backup(tool, i64::from(number(5)) - 5);
        incremental_backup_tool_error();
        incremental_backup_tool_destroy(tool);
    }
}

unsafe extern "C" fn read_block(block: u64, sink: *mut SBackupSink, user_data: *mut c_void) -> i32 {
    let data = unsafe { &*user_data.cast::<&[u8]>() };
    let part = data.get(..(block % 64) as usize).unwrap_or(data);
    unsafe { backup_sink_write(sink, part.as_ptr().cast(), part.len() as u32) }
}

unsafe extern "C" fn see_block(
    block: *const SIncrementalBlock,
    data: *const c_void,
    size: u32,
    _: *mut c_void,
) {
    let (block, data) = unsafe {
        (
            &*block,
            std::slice::from_raw_parts(data.cast::<u8>(), size as usize),
        )
    };
    assert_eq!(block.data_size as usize, data.len());
}

unsafe fn coordinator(data: &[u8]) {
    let directory = DIR.path().join("archives");
    fs::create_dir_all(&directory).expect("a directory");
    let path = CString::new(directory.to_str().expect("UTF-8")).expect("no NUL");
    let (flags, rest) = data.split_first().unwrap_or((&0, &[]));
    let config = SBackupConfig {
        batch_size: u32::from(flags % 7),
        max_retries: 1,
        retry_interval_ms: 0,
        timeout_ms: 60_000,
        enable_compression: flags & 8 != 0,
        enable_encryption: false,
        backup_path: path.as_ptr(),
        temp_path: if flags & 16 != 0 {
            path.as_ptr()
        } else {
            ptr::null()
        },
        enable_parallel_processing: flags & 32 != 0,
    };
    let numbers = numbers(rest);
    let mut lent = rest;
    unsafe {
        let engine = bitmap_engine_init();
        for triple in numbers.chunks_exact(3) {
            bitmap_engine_mark_dirty(engine, triple[0], triple[1], triple[2] as i64);
        }
        let c = backup_coordinator_init(engine, &raw const config);
        backup_coordinator_set_reader(c, Some(read_block), (&raw mut lent).cast());
        let cursor = SBackupCursor {
            type_: u32::from(flags % 5) as _,
            time_cursor: numbers.first().map_or(0, |n| *n as i64),
            wal_cursor: numbers.get(1).copied().unwrap_or(0),
            block_count: u64::from(flags & 64),
            last_update_time: 0,
        };
        backup_coordinator_set_cursor(c, &raw const cursor);
        backup_coordinator_estimate_backup_size(c, 0, u64::MAX);
        backup_coordinator_export(c);
        let mut ids = [0; 8];
        let (first, last) = (cursor.wal_cursor, cursor.time_cursor as u64);
        backup_coordinator_get_dirty_blocks(c, first, last, ids.as_mut_ptr(), 8);
        backup_coordinator_destroy(c);
        bitmap_engine_destroy(engine);
    }
    for entry in fs::read_dir(&directory).expect("a directory").flatten() {
        let name = entry.path();
        let name = CString::new(name.to_str().expect("UTF-8")).expect("no NUL");
        let code = unsafe {
            backup_archive_read(name.as_ptr(), ptr::null(), Some(see_block), ptr::null_mut())
        };
        assert_eq!(code, ERR_SUCCESS, "what was written is read");
        fs::remove_file(entry.path()).expect("an archive");
    }
}

unsafe fn archive(data: &[u8]) {
    let (_, path) = file("archive", data);
    let (key, key_path) = file("key", data);
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("a mode");
    unsafe {
        backup_archive_read(path.as_ptr(), ptr::null(), Some(see_block), ptr::null_mut());
        // Not with the archive's bytes: a passphrase takes its time.
        let engine = bitmap_engine_init();
        backup_archive_read(key_path.as_ptr(), key_path.as_ptr(), None, ptr::null_mut());
        bitmap_engine_destroy(engine);
    }
}

unsafe fn engine(data: &[u8]) {
    let (operation, rest) = data.split_first().unwrap_or((&0, &[]));
    let numbers = numbers(rest);
    let marks: Vec<SBlockMark> = numbers
        .chunks_exact(3)
        .map(|triple| SBlockMark {
            block_id: triple[0],
            wal_offset: triple[1],
            timestamp: triple[2] as i64,
        })
        .collect();
    let (a, b) = (
        numbers.first().copied().unwrap_or(0),
        numbers.last().copied().unwrap_or(0),
    );
    let mut ids = [0; 16];
    let mut done = 0;
    unsafe {
        let engine = bitmap_engine_init();
        for batch in [
            bitmap_engine_mark_dirty_batch,
            bitmap_engine_mark_new_batch,
            bitmap_engine_mark_deleted_batch,
        ] {
            batch(engine, marks.as_ptr(), marks.len(), &raw mut done);
        }
        let count = u32::from(operation % 17);
        bitmap_engine_get_dirty_blocks_by_wal(engine, a, b, ids.as_mut_ptr(), count);
        bitmap_engine_get_dirty_blocks_by_time(engine, a as i64, b as i64, ids.as_mut_ptr(), count);
        bitmap_engine_clear_block(engine, a);
        bitmap_engine_set_memory_limit(engine, a as u32);
        bitmap_engine_cleanup_memory(engine, b as u32);
        bitmap_engine_validate_state_transition(a as _, b as _);
        bitmap_engine_get_state_transition_error(a as _, b as _);
        bitmap_strerror(a as i32);
        bitmap_engine_destroy(engine);
    }
}

unsafe fn events(data: &[u8]) {
    let (flags, rest) = data.split_first().unwrap_or((&0, &[]));
    let config = SEventInterceptorConfig {
        enable_interception: flags & 1 != 0,
        callback: None,
        callback_user_data: ptr::null_mut(),
        event_buffer_size: u32::from(flags / 2),
        callback_threads: u32::from(flags % 4),
    };
    unsafe {
        let engine = bitmap_engine_init();
        let interceptor = event_interceptor_init(&raw const config, engine);
        event_interceptor_set_overflow(interceptor, EVENT_OVERFLOW_DROP);
        event_interceptor_start(interceptor);
        for triple in numbers(rest).chunks_exact(3) {
            event_interceptor_trigger_test_event(
                interceptor,
                u32::from(triple[0] as u8),
                triple[0] >> 8,
                triple[1],
                triple[2] as i64,
            );
        }
        event_interceptor_stop(interceptor);
        event_interceptor_destroy(interceptor);
        bitmap_engine_destroy(engine);
    }
}

unsafe fn storage(data: &[u8]) {
    let texts = texts(data);
    let config = STdengineStorageConfig {
        data_dirs: at(&texts, 0),
        database: at(&texts, 1),
        position_path: at(&texts, 2),
        poll_interval_ms: data.len() as u32,
    };
    unsafe {
        get_storage_engine_interface(at(&texts, 0));
        register_storage_engine_interface(at(&texts, 0), None);
        tdengine_storage_configure(&raw const config);
        let table = &*get_default_storage_engine_interface();
        (table.is_supported.expect("is_supported"))();
        stop_monitoring_wal_changes(at(&texts, 0));
        storage_engine_last_error();
    }
}

unsafe fn taosdump(data: &[u8]) {
    let texts = texts(data);
    // There is no client library in this process, so nothing is done with what is understood.
    let options: Vec<STaosdumpOption> = texts
        .iter()
        .map(|text| {
            let bytes = text.as_bytes();
            let key = i32::from(bytes.first().copied().unwrap_or(0));
            STaosdumpOption {
                key: if key >= 128 { 0x100 + key % 8 } else { key },
                arg: if key % 5 == 0 {
                    ptr::null()
                } else {
                    text.as_ptr()
                },
            }
        })
        .collect();
    let engine = unsafe { &*taosdump_engine() };
    unsafe {
        (engine.run.expect("run"))(options.as_ptr(), options.len() as u32, at(&texts, 0));
    }
}

unsafe fn of_taosx(data: &[u8]) {
    let texts = texts(data);
    let pairs: Vec<taosx::header::TaosX_KVPair> = texts
        .chunks_exact(2)
        .map(|pair| taosx::header::TaosX_KVPair {
            key: pair[0].as_ptr(),
            value: pair[1].as_ptr(),
        })
        .collect();
    let config = taosx::header::TaosX_Config {
        items: pairs.as_ptr(),
        count: pairs.len(),
    };
    unsafe {
        taosx::taosx_plugin_init();
        taosx::taosx_plugin_configure(&raw const config);
        taosx::taosx_plugin_last_error();
        taosx::taosx_plugin_shutdown();
    }
}

unsafe fn queue(data: &[u8]) {
    let (capacity, rest) = data.split_first().unwrap_or((&0, &[]));
    unsafe {
        let ring = ring_buffer_init(u32::from(*capacity));
        for byte in rest {
            let mut item = ptr::null_mut();
            match byte % 3 {
                0 => drop(ring_buffer_dequeue(ring, &raw mut item)),
                _ => drop(ring_buffer_enqueue(ring, usize::from(*byte) as *mut c_void)),
            }
        }
        ring_buffer_destroy(ring);
    }
}

unsafe fn metrics(data: &[u8]) {
    let mut buffer = vec![1; data.len()];
    unsafe {
        format_observability_metrics_json(buffer.as_mut_ptr(), buffer.len());
        format_observability_metrics_prometheus(buffer.as_mut_ptr(), buffer.len());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((what, data)) = data.split_first() else {
        return;
    };
    let calls = [
        plugin,
        backup_tool,
        coordinator,
        archive,
        engine,
        events,
        storage,
        taosdump,
        of_taosx,
        queue,
        metrics,
    ];
    if let Some(call) = calls.get(usize::from(*what) % calls.len()) {
        unsafe { call(data) }
    }
});
