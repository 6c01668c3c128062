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

    /// Something was lost, or nothing was tried although it could have been.
    pub(crate) fn is_bad(&self) -> bool {
        self.survived != self.tries || (self.tries == 0 && self.skipped.is_none())
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("\n{:<66} {:>6} {:>9} {:>5}", "fault", "tries", "survived", "lost");
    for row in rows {
        match &row.skipped {
            Some(why) => println!("{:<66} skipped: {why}", row.fault),
            None => println!(
                "{:<66} {:>6} {:>9} {:>5}",
                row.fault,
                row.tries,
                row.survived,
                row.tries - row.survived
            ),
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
