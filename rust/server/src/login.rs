//! As whom to connect, and where.

use config::Settings;
use taos::Login;

/// The login that settings say.
pub fn login(settings: &Settings) -> Login {
    let source = &settings.source;
    Login {
        host: source.host.clone(),
        port: u16::try_from(source.port).unwrap_or(0),
        user: source.user.clone(),
        password: source.password.clone(),
    }
}
