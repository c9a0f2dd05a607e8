//! Everything that is written to people: bars on a terminal, lines in a log. Standard output is for what other programs
//! read, or for the log of a task, and stays empty where nobody asks for that.

use crate::{
    cli::task_log,
    error::{self, Error, Result},
    observe::{Event, Fetched, Observer},
    size::ByteSize,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{ErrorKind, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A bar of known length.
const BAR: &str =
    "{msg:>24.24} {bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta}";

/// The terminal or log of a run.
pub(super) struct Ui {
    /// The topic of lines in the log of a task, if that is where they go.
    topic: Option<&'static str>,
    bars: Option<MultiProgress>,
    total: Option<ProgressBar>,
    rows: Mutex<Vec<Row>>,
}

/// One line of the summary.
struct Row {
    name: String,
    fetched: Option<Fetched>,
}

impl Ui {
    /// Draws bars if standard error is a terminal.
    pub(super) fn new() -> Arc<Self> {
        let bars = std::io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let total = bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(0));
            bar.set_style(style(BAR));
            bar.set_message("total");
            bar
        });
        Arc::new(Self {
            topic: None,
            bars,
            total,
            rows: Mutex::default(),
        })
    }

    /// Writes to the log of a task, under a topic.
    pub(super) fn logging_under(topic: &'static str) -> Arc<Self> {
        Arc::new(Self {
            topic: Some(topic),
            bars: None,
            total: None,
            rows: Mutex::default(),
        })
    }

    /// Writes one line, above the bars if there are any.
    pub(super) fn line(&self, text: &str) {
        if let Some(topic) = self.topic {
            return task_log::line(topic, text);
        }
        let write = || {
            // A closed standard error must not end the fetch.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Writes what was asked for to standard output, where no bar is in the way.
    pub(super) fn data(text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            // Who reads has seen enough.
            Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|source| Error::Fs {
                action: "write to",
                path: "standard output".into(),
                source,
            }),
        }
    }

    /// Writes a warning.
    pub(super) fn warning(&self, text: &str) {
        self.line(&format!("warning: {text}"));
    }

    /// Returns the observer of one fetch.
    pub(super) fn watch(self: &Arc<Self>, name: &str) -> Arc<dyn Observer> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push(Row {
            name: name.to_owned(),
            fetched: None,
        });
        Arc::new(Watch {
            row: Some(rows.len() - 1),
            ..Watch::new(self, name)
        })
    }

    /// Returns the observer of something that is not in the summary.
    pub(super) fn listen(self: &Arc<Self>, name: &str) -> Arc<dyn Observer> {
        Arc::new(Watch::new(self, name))
    }

    /// Removes the bars.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }

    /// Writes what was fetched and where the time went.
    pub(super) fn summary(&self, elapsed: Duration) {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let done: Vec<(&str, &Fetched)> = rows
            .iter()
            .filter_map(|row| Some((row.name.as_str(), row.fetched.as_ref()?)))
            .collect();
        let bytes = ByteSize(done.iter().map(|(_, fetched)| fetched.bytes).sum());
        let seconds = elapsed.as_secs_f64();
        self.line(&format!(
            "fetched {} of {}: {bytes} in {seconds:.2} s ({})",
            done.len(),
            rows.len(),
            bytes.rate(elapsed)
        ));
        if done.is_empty() {
            return;
        }
        let width = done
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0)
            .clamp(5, 40);
        self.line(&format!(
            "  {:width$} {:>10} {:>8} {:>10} {:>8}",
            "fetch", "size", "wait s", "transfer s", "unpack s"
        ));
        for (name, fetched) in done {
            let size = ByteSize(fetched.bytes).to_string();
            let [wait, transfer, unpack] =
                [fetched.wait, fetched.transfer, fetched.unpack].map(|time| time.as_secs_f64());
            self.line(&format!(
                "  {name:width$} {size:>10} {wait:>8.2} {transfer:>10.2} {unpack:>8.2}"
            ));
        }
    }
}

/// Shows the events of one fetch.
struct Watch {
    ui: Arc<Ui>,
    row: Option<usize>,
    name: String,
    bar: Mutex<Option<ProgressBar>>,
}

impl Watch {
    fn new(ui: &Arc<Ui>, name: &str) -> Self {
        Self {
            ui: Arc::clone(ui),
            row: None,
            name: name.to_owned(),
            bar: Mutex::default(),
        }
    }

    fn line(&self, text: &str) {
        self.ui.line(&format!("[{}] {text}", self.name));
    }

    /// Starts a bar, in place of that of an earlier attempt.
    fn start_bar(&self, size: Option<u64>) {
        let (Some(bars), Some(total)) = (&self.ui.bars, &self.ui.total) else {
            return;
        };
        self.drop_bar();
        let bar = match size {
            Some(size) => {
                total.inc_length(size);
                ProgressBar::new(size).with_style(style(BAR))
            }
            None => ProgressBar::new_spinner().with_style(style(
                "{msg:>24.24} {spinner} {decimal_bytes} {decimal_bytes_per_sec}",
            )),
        };
        let bar = bars.insert_before(total, bar);
        bar.set_message(self.name.clone());
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn drop_bar(&self) {
        let bar = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let (Some(bar), Some(total)) = (bar, &self.ui.total) {
            if !bar.is_finished() {
                total.set_length(
                    total
                        .length()
                        .unwrap_or(0)
                        .saturating_sub(bar.length().unwrap_or(0)),
                );
                total.set_position(total.position().saturating_sub(bar.position()));
            }
            bar.finish_and_clear();
        }
    }

    fn received(&self, bytes: u64) {
        if let (Some(bar), Some(total)) = (
            &*self.bar.lock().unwrap_or_else(PoisonError::into_inner),
            &self.ui.total,
        ) {
            bar.inc(bytes);
            total.inc(bytes);
        }
    }

    fn finished(&self, fetched: &Fetched) {
        if let Some(bar) = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
        let Fetched {
            bytes,
            sha256,
            transfer,
            unpack,
            ..
        } = fetched;
        let (size, time) = (ByteSize(*bytes), *transfer + *unpack);
        self.line(&format!(
            "done: {size} in {:.2} s ({}), sha256 {sha256}",
            time.as_secs_f64(),
            size.rate(time)
        ));
        if let Some(row) = self.row {
            let mut rows = self.ui.rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows[row].fetched = Some(fetched.clone());
        }
    }
}

impl Observer for Watch {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Started { url, size } => {
                if self.ui.bars.is_none() {
                    self.line(&format!("start {url}"));
                }
                self.start_bar(*size);
            }
            Event::Received { bytes } => self.received(*bytes),
            Event::Resumed { offset } => self.line(&format!("goes on after {}", ByteSize(*offset))),
            Event::Retrying {
                cause,
                wait,
                retry,
                retries,
            } => {
                let text = error::chain(*cause);
                self.line(&format!(
                    "retry {retry} of {retries} in {:.1} s: {text}",
                    wait.as_secs_f64()
                ));
            }
            Event::Signed(signer) => self.line(&format!("signed by {signer}")),
            Event::Finished(fetched) => self.finished(fetched),
            Event::Warning(text) => self.ui.warning(text),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // Fails only for a malformed template, and then the default will do.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
