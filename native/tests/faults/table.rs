//! The table that is printed in the end.

/// What came of one kind of fault.
pub(crate) struct Row {
    fault: String,
    tries: usize,
    survived: usize,
    /// What was lost, a line each.
    losses: Vec<String>,
    /// Why the fault could not be tried here.
    skipped: Option<String>,
}

impl Row {
    pub(crate) fn new(fault: impl Into<String>) -> Self {
        Row { fault: fault.into(), tries: 0, survived: 0, losses: Vec::new(), skipped: None }
    }

    pub(crate) fn skipped(fault: impl Into<String>, why: impl Into<String>) -> Self {
        Row { skipped: Some(why.into()), ..Row::new(fault) }
    }

    /// Counts a try: nothing lost, or what.
    pub(crate) fn count(&mut self, outcome: Result<(), String>) {
        self.tries += 1;
        match outcome {
            Ok(()) => self.survived += 1,
            Err(loss) => {
                eprintln!("lost: {}: {loss}", self.fault);
                self.losses.push(loss);
            }
        }
    }

    /// Something was lost, or nothing was tried although it could have been; with `all`, a fault that could not be tried
    /// counts as well.
    pub(crate) fn is_bad(&self, all: bool) -> bool {
        self.survived != self.tries
            || (self.tries == 0 && self.skipped.is_none())
            || (all && self.skipped.is_some())
    }

    /// Says that the rest of the tries could not be made.
    pub(crate) fn skip_rest(&mut self, why: impl Into<String>) {
        self.skipped = Some(why.into());
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("\n{:<66} {:>6} {:>9} {:>5}", "fault", "tries", "survived", "lost");
    for row in rows {
        let lost = row.tries - row.survived;
        println!("{:<66} {:>6} {:>9} {lost:>5}", row.fault, row.tries, row.survived);
        if let Some(why) = &row.skipped {
            println!("    skipped: {why}");
        }
        for loss in row.losses.iter().take(5) {
            println!("    {loss}");
        }
    }
    let skipped = rows.iter().filter(|row| row.skipped.is_some()).count();
    if skipped > 0 {
        println!("{skipped} kinds of fault skipped");
    }
}
