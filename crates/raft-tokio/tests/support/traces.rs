//! What the code under test has traced.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;

thread_local! {
    static SAID: Rc<RefCell<Vec<u8>>> = Rc::default();
}

/// What was traced on this thread. One subscriber for the whole process, which
/// keeps the threads of the tests apart: subscribers of single threads switch
/// each other's events off.
pub(crate) struct Traces {
    said: Rc<RefCell<Vec<u8>>>,
}

impl Traces {
    /// From now on. The test's runtime must have one thread.
    pub(crate) fn listen() -> Self {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        INSTALLED.get_or_init(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::DEBUG)
                .with_ansi(false)
                .with_writer(|| Said)
                .init();
        });
        let said = SAID.with(Rc::clone);
        said.borrow_mut().clear();
        Self { said }
    }

    /// What was said since it was last asked.
    pub(crate) fn take(&self) -> String {
        let said = self.said.take();
        String::from_utf8(said).expect("traces are text")
    }
}

struct Said;

impl std::io::Write for Said {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        SAID.with(|said| said.borrow_mut().extend_from_slice(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
