//! Passwords: hashed with Argon2id (RFC 9106, with OWASP's parameters), on threads that may block, a few
//! at a time so that a wave of logins costs time and not memory.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tidings_protocol::{Code, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::random;
use crate::config::UsersSettings;
use crate::metrics::Metrics;

/// Computes hashes.
pub(super) struct Passwords {
    params: Params,
    /// Hashes that are computed now …
    computing: Arc<Semaphore>,
    /// … and those, with the ones that wait for it.
    asked: Arc<Semaphore>,
    asked_max: usize,
    /// The hash of a password that nobody has: what is computed for users who do not exist.
    nobody: Arc<OnceLock<String>>,
    metrics: Arc<Metrics>,
}

impl Passwords {
    pub(super) fn new(settings: &UsersSettings, metrics: Arc<Metrics>) -> Passwords {
        let params = Params::new(
            settings.password_memory_kib,
            settings.password_passes,
            settings.password_lanes,
            None,
        );
        let at_once = settings.password_hashes_at_once_max.max(1);
        let asked_max = at_once.saturating_add(settings.password_hashes_waiting_max);
        let asked_max = asked_max.min(Semaphore::MAX_PERMITS);
        Passwords {
            // Impossible parameters are refused with the settings.
            params: params.unwrap_or_default(),
            computing: Arc::new(Semaphore::new(at_once)),
            asked: Arc::new(Semaphore::new(asked_max)),
            asked_max,
            nobody: Arc::default(),
            metrics,
        }
    }

    /// Hashes that are computed or wait for it.
    pub(super) fn asked(&self) -> usize {
        self.asked_max
            .saturating_sub(self.asked.available_permits())
    }

    /// The hash of a new password.
    pub(super) async fn hash(&self, password: String) -> Result<String, Problem> {
        let params = self.params.clone();
        self.compute(move || hash(&params, &password)).await?
    }

    /// Whether a password is the one of a stored hash; for nobody's hash the same work, and no.
    pub(super) async fn verify(
        &self,
        stored: Option<String>,
        password: String,
    ) -> Result<bool, Problem> {
        let params = self.params.clone();
        let nobody = self.nobody.clone();
        self.compute(move || {
            let exists = stored.is_some();
            let stored = match stored {
                Some(stored) => stored,
                None => match nobody.get() {
                    Some(stored) => stored.clone(),
                    None => nobodys(&params, &nobody)?,
                },
            };
            let stored = PasswordHash::new(&stored).map_err(|error| {
                tracing::error!(%error, "a stored password hash cannot be read");
                Problem::new(Code::Internal)
            })?;
            // The parameters are those of the stored hash.
            let same = Argon2::default().verify_password(password.as_bytes(), &stored);
            Ok(same.is_ok() && exists)
        })
        .await?
    }

    /// Computes nobody's hash, so that the first unknown username takes no longer than the second.
    pub(super) async fn warm_up(&self) -> Result<(), Problem> {
        let params = self.params.clone();
        let nobody = self.nobody.clone();
        self.compute(move || nobodys(&params, &nobody).map(drop))
            .await?
    }

    /// Whether a stored hash was made with other parameters than a new one would be.
    pub(super) fn is_outdated(&self, stored: &str) -> bool {
        let found = PasswordHash::new(stored)
            .ok()
            .and_then(|stored| Params::try_from(&stored).ok());
        found.is_none_or(|found| {
            (found.m_cost(), found.t_cost(), found.p_cost())
                != (
                    self.params.m_cost(),
                    self.params.t_cost(),
                    self.params.p_cost(),
                )
        })
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let asked = self.asked.clone().try_acquire_owned().map_err(|_| {
            let mut problem = Problem::new(Code::Busy);
            problem.limit = Some("password_hashes_waiting_max".into());
            problem
        })?;
        let computing = self.computing.clone().acquire_owned().await;
        let permits: (OwnedSemaphorePermit, _) = (asked, computing);
        let metrics = self.metrics.clone();
        tokio::task::spawn_blocking(move || {
            // The permits go with the work: who hangs up does not make room for more of it.
            let _permits = permits;
            let started = Instant::now();
            let done = work();
            metrics.password_hash_took(started.elapsed());
            done
        })
        .await
        .map_err(|error| {
            tracing::error!(%error, "a password hash was not computed");
            Problem::new(Code::Internal)
        })
    }
}

fn hash(params: &Params, password: &str) -> Result<String, Problem> {
    let failed = |error: argon2::password_hash::Error| {
        tracing::error!(%error, "a password hash was not computed");
        Problem::new(Code::Internal)
    };
    let salt = SaltString::encode_b64(&random::<16>()).map_err(failed)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let hash = argon2
        .hash_password(password.as_bytes(), &salt)
        .map_err(failed)?;
    Ok(hash.to_string())
}

fn nobodys(params: &Params, nobody: &OnceLock<String>) -> Result<String, Problem> {
    let made = hash(params, "nobody has this password")?;
    Ok(nobody.get_or_init(|| made).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(memory_kib: u32, waiting_max: usize) -> Passwords {
        let settings = UsersSettings {
            password_memory_kib: memory_kib,
            password_passes: 1,
            password_hashes_at_once_max: 1,
            password_hashes_waiting_max: waiting_max,
            ..UsersSettings::default()
        };
        Passwords::new(&settings, Arc::default())
    }

    #[tokio::test]
    async fn a_hash_knows_its_password() {
        let passwords = passwords(8, 8);
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        let stored = Some(hash.clone());
        assert_eq!(
            passwords
                .verify(stored.clone(), "correct horse".into())
                .await,
            Ok(true)
        );
        assert_eq!(
            passwords.verify(stored, "wrong horse".into()).await,
            Ok(false)
        );
        assert_eq!(
            passwords
                .verify(None, "nobody has this password".into())
                .await,
            Ok(false)
        );
        assert!(!passwords.is_outdated(&hash));
        assert!(self::passwords(16, 8).is_outdated(&hash));
        assert_ne!(
            passwords.hash("correct horse".into()).await.unwrap(),
            hash,
            "salted"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn too_many_at_once_are_told_to_come_back() {
        let passwords = Arc::new(passwords(4_096, 2));
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.hash("password".into()).await })
            })
            .collect();
        let mut busy = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => {}
                Err(problem) => {
                    assert_eq!(problem.code, Code::Busy);
                    assert_eq!(
                        problem.limit.as_deref(),
                        Some("password_hashes_waiting_max")
                    );
                    busy += 1;
                }
            }
        }
        assert!(busy > 0);
        assert!(passwords.hash("password".into()).await.is_ok(), "and can");
    }
}
