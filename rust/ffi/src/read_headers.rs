//! Reads public headers for a build script: their types for Rust, and a check that each exported function has the type
//! its header declares.

use std::{env, fmt::Write as _, fs, path::Path};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Writes `<header>.rs` (types) and `<header>_functions.rs` (checks) for each header of `directory`.
pub(crate) fn read_headers(directory: &str, headers: &[&str]) -> Result<(), Failure> {
    let out = env::var("OUT_DIR")?;
    for header in headers {
        let path = format!("{directory}/{header}.h");
        println!("cargo:rerun-if-changed={path}");
        let read = || {
            bindgen::Builder::default()
                .header(&path)
                .allowlist_file(format!(".*/{header}\\.h"))
                // Types of an included header come from that header's own turn.
                .allowlist_recursively(false)
                .prepend_enum_name(false)
                .default_enum_style(bindgen::EnumVariation::Consts)
        };
        let types = read().ignore_functions().generate()?.to_string();
        let functions = read()
            .blocklist_type(".*")
            .blocklist_var(".*")
            .generate()?
            .to_string();
        let agreement = agreement(&functions)?;
        fs::write(Path::new(&out).join(format!("{header}.rs")), types)?;
        fs::write(
            Path::new(&out).join(format!("{header}_functions.rs")),
            functions + &agreement,
        )?;
    }
    Ok(())
}

/// One check per declared function: the type of the Rust function is the type of the declaration.
fn agreement(bindings: &str) -> Result<String, Failure> {
    let mut checks = String::new();
    for declaration in bindings.split("pub fn ").skip(1) {
        let (name, rest) = declaration.split_once('(').ok_or("a function without (")?;
        let (arguments, _) = rest.split_once(')').ok_or("a function without )")?;
        let holes =
            "_, ".repeat(arguments.matches(':').count() - arguments.matches("::").count() * 2);
        writeln!(
            checks,
            "fn {name}_agrees() {{ let mut f = self::{name} as unsafe extern \"C\" fn({holes}) -> _; \
             f = crate::{name}; let _ = f; }}"
        )?;
    }
    Ok(checks)
}
