//! `fetch-content cache name`: the names of a task's caches, and what its payload says of them.

use super::args;
use crate::{
    cachedir::name::{Command, IMAGE_TASK, Image, Mount, Naming, Payload, ScriptDigest, Worker},
    cli::ui::Ui,
    error::{self, Error, Result},
    fs,
};
use serde_json::{Value, json};

pub(super) fn run(args: &args::Name) -> Result<()> {
    let naming = Naming {
        trust_domain: args.trust_domain.clone(),
        level: args.level,
        worker: worker(args)?,
    };
    let mounts: Vec<Mount> = args
        .caches
        .iter()
        .map(|typed| mount(typed, &naming, args))
        .collect::<Result<_>>()?;
    let skipped = |name: &String| args.caches.iter().any(|typed| cache_of(typed) == name);
    if let Some(unknown) = args.skip_untrusted.iter().find(|name| !skipped(name)) {
        return Err(Error::usage(format!(
            "--skip-untrusted {unknown}: there is no such cache"
        )));
    }
    let payload = naming.payload(&mounts, &args.volumes);
    if args.json {
        return Ui::data(&format!("{:#}", json(&naming, payload)));
    }
    for name in payload.caches.keys() {
        Ui::data(name)?;
    }
    Ok(())
}

fn worker(args: &args::Name) -> Result<Worker> {
    if args.generic_worker {
        return Ok(Worker::Generic);
    }
    let Some(script) = &args.run_task else {
        return Ok(Worker::Docker(Command::Other));
    };
    let script = fs::read(script).map_err(|err| Error::usage(error::chain(&err)))?;
    let image = match (&args.image, &args.image_task) {
        (Some(name), _) => Image::Named(name.clone()),
        (None, _) if args.any_image_task => Image::AnyTask,
        (None, Some(id)) => Image::Task(id.clone()),
        (None, None) => Image::Task(IMAGE_TASK.to_owned()),
    };
    Ok(Worker::Docker(Command::RunTask {
        script: ScriptDigest::of(&script),
        image,
    }))
}

/// The name in `NAME` or `NAME=PATH`.
fn cache_of(typed: &str) -> &str {
    typed.split_once('=').map_or(typed, |(name, _)| name)
}

fn mount(typed: &str, naming: &Naming, args: &args::Name) -> Result<Mount> {
    let skip_untrusted = args
        .skip_untrusted
        .iter()
        .any(|name| name == cache_of(typed));
    let mount = match typed.split_once('=') {
        Some((name, path)) => Some(Mount {
            name: name.to_owned(),
            path: path.to_owned(),
            variable: None,
            skip_untrusted,
        }),
        None => naming.well_known(typed, &args.workdir, &args.repositories),
    };
    let mount = mount.map(|mount| Mount {
        skip_untrusted,
        ..mount
    });
    mount.ok_or_else(|| Error::Usage {
        what: format!("nobody knows where the cache `{}` is", typed.escape_debug()),
        hint: Some(format!("say where it is mounted: {typed}=PATH")),
    })
}

/// The parts of a payload that are about caches.
fn json(naming: &Naming, payload: Payload) -> Value {
    let Payload {
        caches,
        env,
        scopes,
        purge,
    } = payload;
    let mut json = json!({"env": env, "scopes": scopes});
    match naming.worker {
        Worker::Docker(_) => json["cache"] = json!(caches),
        Worker::Generic => {
            let mounts = caches
                .iter()
                .map(|(name, path)| json!({"cacheName": name, "directory": path}));
            json["mounts"] = mounts.collect();
        }
    }
    if !purge.is_empty() {
        json["onExitStatus"] = json!({"retry": purge, "purgeCaches": purge});
    }
    json
}
