//! What many ask for at once is done once: whoever asks while it is being done waits for the next time, and all who
//! wait are content with that one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Something that is done for all who ask for it.
#[derive(Debug, Default)]
pub(crate) struct SingleFlight {
    /// How often it has begun.
    begun: AtomicU64,
    /// The last time that it was done to the end, counted as they began. Held while it is being done.
    done: Mutex<u64>,
}

impl SingleFlight {
    /// Does it, unless somebody else did who began after this was called; `None` then. One that fails or is given up
    /// counts for nobody but its caller.
    ///
    /// # Errors
    /// That of doing it.
    pub(crate) async fn run<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, E> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut done = self.done.lock().await;
        if *done > begun_before {
            return Ok(None);
        }
        let this = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = work.await?;
        *done = this;
        Ok(Some(result))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    struct Stage {
        flight: SingleFlight,
        began: AtomicUsize,
        may_end: Semaphore,
    }

    impl Stage {
        async fn run(self: Arc<Self>, fails: bool) -> Result<Option<usize>, &'static str> {
            let work = async {
                let number = self.began.fetch_add(1, Ordering::SeqCst) + 1;
                self.may_end.acquire().await.unwrap().forget();
                if fails { Err("failed") } else { Ok(number) }
            };
            self.flight.run(work).await
        }

        async fn settled() {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn stage() -> Arc<Stage> {
        Arc::new(Stage {
            flight: SingleFlight::default(),
            began: AtomicUsize::new(0),
            may_end: Semaphore::new(0),
        })
    }

    #[tokio::test]
    async fn those_who_ask_meanwhile_share_the_next() {
        let stage = stage();
        let first = tokio::spawn(stage.clone().run(false));
        Stage::settled().await;
        let others: Vec<_> = (0..5)
            .map(|_| tokio::spawn(stage.clone().run(false)))
            .collect();
        Stage::settled().await;
        stage.may_end.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(Some(1)));
        let mut answers = Vec::new();
        for other in others {
            answers.push(other.await.unwrap().unwrap());
        }
        // The first began before they asked, and tells them nothing.
        answers.sort_unstable();
        assert_eq!(answers, [None, None, None, None, Some(2)]);
    }

    #[tokio::test]
    async fn one_that_fails_or_is_given_up_counts_for_nobody_else() {
        let stage = stage();
        let given_up = tokio::spawn(stage.clone().run(false));
        Stage::settled().await;
        let fails = tokio::spawn(stage.clone().run(true));
        Stage::settled().await;
        let last = tokio::spawn(stage.clone().run(false));
        Stage::settled().await;
        given_up.abort();
        stage.may_end.add_permits(2);
        assert_eq!(fails.await.unwrap(), Err("failed"));
        assert_eq!(last.await.unwrap(), Ok(Some(3)));
    }
}
