//! A simulated worker, which runs the real [`Partition`], and the pipelines that it may have.

use super::*;

pub(super) struct Worker {
    pub(super) partition: Partition,
    pub(super) epoch: u64,
    pub(super) position: usize,
    pub(super) under_way: Option<Action>,
    pub(super) zombie: bool,
}

impl Worker {
    /// One step. `false`: it is gone, and somebody has to take over.
    pub(super) fn step(
        &mut self,
        world: &mut World,
        seed: &mut Seed,
        now: Now,
        faults: bool,
    ) -> bool {
        if self.under_way.is_none() {
            self.under_way = self.partition.next_action();
        }
        if let Some(action) = &self.under_way
            && (!faults || seed.chance(60))
        {
            let done = world.perform(action, self.epoch, seed, faults);
            let waits = action.is_awaited();
            self.under_way = None;
            return match done {
                Ok(()) if waits => self.partition.apply(Event::ActionDone, now).is_ok(),
                Ok(()) => true,
                Err(()) => !waits,
            };
        }
        if world.case != Case::Hopping && seed.chance(10) {
            // A table was read again.
            let version = seed.below(2);
            self.partition
                .use_pipeline(&make_pipeline(version, world.case));
        }
        if seed.chance(10) {
            // For now there is no record.
            return self.partition.apply(Event::Tick, now).is_ok();
        }
        let upto = (self.position + 1 + seed.below(9)).min(world.log.entries.len());
        let chunk = Fetched {
            bytes: world.log.bytes.clone(),
            entries: world.log.entries[self.position..upto].to_vec(),
            names: 0,
        };
        self.position += self.partition.take(&chunk, 0, now).unwrap();
        let event = match seed.below(100) {
            0..5 => Event::Pressure,
            5..10 => Event::Flush,
            _ => Event::Tick,
        };
        self.partition.apply(event, now).is_ok()
    }
}

/// Two pipelines: a change of the configuration, or of a table.
pub(super) fn make_pipeline(version: usize, case: Case) -> Arc<Pipeline> {
    type Two = [Arc<Pipeline>; 2];
    static PLAIN: LazyLock<Two> =
        LazyLock::new(|| [0, 1].map(|version| compiled(version, "", books::ACCOUNTS[version])));
    static BOUNDED: LazyLock<Two> = LazyLock::new(|| {
        [0, 1].map(|version| compiled(version, "ledger='1200B'\n", books::ACCOUNTS[version]))
    });
    static HOPPING: LazyLock<Two> = LazyLock::new(|| {
        [0, 1].map(|version| {
            let more = [windows::step(version), books::ACCOUNTS[version].to_owned()];
            compiled(version, "", &more.concat())
        })
    });
    static FORGETFUL: LazyLock<Two> =
        LazyLock::new(|| [0, 1].map(|version| compiled(version, "", "")));
    let two = match case {
        Case::Plain => &PLAIN,
        Case::Bounded => &BOUNDED,
        Case::Hopping => &HOPPING,
        Case::Forgetful => &FORGETFUL,
    };
    Arc::clone(&two[version])
}

pub(super) fn compiled(version: usize, bound: &str, more: &str) -> Arc<Pipeline> {
    // Windows of another length are another step's: the change closes those that are open. And what a
    // program makes of the batch clock and the record's place is made again exactly.
    let window = ["20s", "5m"][version];
    let steps = format!(
        "[[transform]]\nstep='filter'\nfield='kept'\nin=['yes']\n\
         [[transform]]\nstep='vrl'\nsource='''\n.made = now()\n.at = %hw.offset\n.v = {version}\n'''\n\
         [[transform]]\nstep='aggregate'\nwindow='{window}'\nlateness='30s'\nkeep_records=true\n\
         by=['stream']\npath='w{version}/{{stream}}'\ncompute=[{{function='count'}}]\n{more}"
    );
    // And one of them makes an object for each record.
    let layout = ["batch", "record"][version];
    let steps = format!("{bound}layout='{layout}'\n{steps}");
    let path = ["v0/s={stream}/at={ingest:%M}", "v1/{stream}"][version];
    Arc::new(pipeline(&format!("{steps}{}", items::TABLES), path))
}
