//! Finding the client library and connecting through it.

use crate::{
    api::{self, Api},
    connection::{Connection, SqlError, last_error},
    umask,
};
use libloading::os::unix::{Library as Dynamic, RTLD_NOW};
use std::{
    ffi::{CStr, CString, OsStr, c_int},
    fmt,
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
};

/// The client library's functions.
#[derive(Clone)]
pub struct Library(pub(crate) Arc<Api>);

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Library")
    }
}

/// A library that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there, or not a library.
    #[error(
        "TDengine's client library {path} can't be loaded: {reason}; install the TDengine client, or add its directory to LD_LIBRARY_PATH"
    )]
    Load {
        /// What was loaded.
        path: PathBuf,
        /// The linker's words.
        reason: String,
    },
    /// A function is missing.
    #[error("{place} has no function {function}: it is no client library of TDengine 3.3")]
    Function {
        /// Where it was looked for.
        place: String,
        /// Its name.
        function: &'static str,
    },
    /// An option was refused.
    #[error("the client library refused the {option} {value:?}")]
    Option {
        /// Which one.
        option: &'static str,
        /// Its value.
        value: String,
    },
}

/// "Version not compatible".
const OTHER_VERSION: u32 = 0x011e;

/// Where to connect, and as whom. Empty fields are the library's defaults.
#[derive(Clone, Default)]
pub struct Login {
    /// Host name or address.
    pub host: Option<String>,
    /// Port; 0 for the default.
    pub port: u16,
    /// User; root by default.
    pub user: Option<String>,
    /// Password; taosdata by default.
    pub password: Option<String>,
}

/// Without the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Where the login leads, for messages; they name taos.cfg where that file decides.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Some(host), 0) => write!(f, "{host} at the port of taos.cfg"),
            (Some(host), port) => write!(f, "{host}:{port}"),
            (None, 0) => f.write_str("the server of taos.cfg"),
            (None, port) => write!(f, "the server of taos.cfg at port {port}"),
        }
    }
}

impl Library {
    /// The library that this process is linked to, with the directory of taos.cfg, if it is not the usual one.
    pub fn in_process(config_dir: Option<&Path>) -> Result<Self, LoadError> {
        Self::resolve(Dynamic::this(), "this program", config_dir)
    }

    /// The library that this process is linked to, else the one that the system's linker finds; with the directory of
    /// taos.cfg, if it is not the usual one.
    pub fn find(config_dir: Option<&Path>) -> Result<Self, LoadError> {
        let name = if cfg!(target_os = "macos") {
            "libtaos.dylib"
        } else {
            "libtaos.so"
        };
        match Self::in_process(config_dir) {
            Err(LoadError::Function { .. }) => Self::load(name.as_ref(), config_dir),
            found => found,
        }
    }

    /// Loads the library from `path`; a bare file name is looked for where the system's linker looks. With the
    /// directory of taos.cfg, if it is not the usual one.
    pub fn load(path: &Path, config_dir: Option<&Path>) -> Result<Self, LoadError> {
        // SAFETY: TDengine's client has no constructors that ask anything of its caller.
        let library =
            unsafe { Dynamic::open(Some(path), RTLD_NOW) }.map_err(|error| LoadError::Load {
                path: path.into(),
                reason: error.to_string(),
            })?;
        Self::resolve(library, &path.display().to_string(), config_dir)
    }

    fn resolve(
        library: Dynamic,
        place: &str,
        config_dir: Option<&Path>,
    ) -> Result<Self, LoadError> {
        // SAFETY: only libtaos exports all of these names.
        let api =
            unsafe { Api::resolve(library, place) }.map_err(|function| LoadError::Function {
                place: place.to_owned(),
                function,
            })?;
        let library = Self(Arc::new(api));
        // This option comes first: with any other one the library reads taos.cfg at once, and the directory would come too
        // late.
        if let Some(dir) = config_dir {
            library.option(
                api::OPTION_CONFIG_DIR,
                "configuration directory",
                dir.as_os_str(),
            )?;
        }
        // Texts are UTF-8 here whatever the environment says.
        let _ = library.option(api::OPTION_LOCALE, "locale", OsStr::new("C.UTF-8"));
        library.option(api::OPTION_CHARSET, "charset", OsStr::new("UTF-8"))?;
        Ok(library)
    }

    fn option(&self, number: c_int, option: &'static str, value: &OsStr) -> Result<(), LoadError> {
        let refused = || LoadError::Option {
            option,
            value: value.to_string_lossy().into_owned(),
        };
        let text = CString::new(value.as_encoded_bytes()).map_err(|_| refused())?;
        // SAFETY: the text is NUL-terminated; these options take one text, and the library copies it.
        match umask::kept(|| unsafe { (self.0.options)(number, text.as_ptr().cast()) }) {
            0 => Ok(()),
            _ => Err(refused()),
        }
    }

    /// The library's version.
    pub fn version(&self) -> String {
        // SAFETY: the library returns a static text.
        unsafe { CStr::from_ptr((self.0.client_info)()) }
            .to_string_lossy()
            .into_owned()
    }

    /// Connects.
    pub fn connect(&self, login: &Login) -> Result<Connection, SqlError> {
        let text = |value: &Option<String>, what: &str| match value {
            None => Ok(None),
            Some(value) => CString::new(value.as_str())
                .map(Some)
                .map_err(|_| SqlError::local(format!("the {what} holds a NUL"))),
        };
        let (host, user, password) = (
            text(&login.host, "host")?,
            text(&login.user, "user")?,
            text(&login.password, "password")?,
        );
        let pointer =
            |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        // SAFETY: all texts are NUL-terminated or null, which stands for the default.
        let handle = umask::kept(|| unsafe {
            (self.0.connect)(
                pointer(&host),
                pointer(&user),
                pointer(&password),
                ptr::null(),
                login.port,
            )
        });
        if handle.is_null() {
            let mut error = last_error(&self.0, &format!("connecting to {login}"));
            if error.code & 0xffff == OTHER_VERSION {
                error.text.push_str(
                    ": the client library is of another version than the server; have the library of the server's version \
                     found first, by LD_LIBRARY_PATH",
                );
            }
            return Err(error);
        }
        Ok(Connection::new(self.0.clone(), handle))
    }
}
