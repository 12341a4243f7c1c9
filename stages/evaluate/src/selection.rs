//! Which epoch's network to keep, decided after training from what every epoch scored.
//!
//! The study keeps the last epoch, so its columns bear no suffix. A selector adds `epoch@name`,
//! `id_acc@name` and `ood_acc@name`: the epoch that it picks, and what its network scores on the
//! two tests. Every epoch's weights are kept, so that a new selector costs no training
//! (Gulrajani and Lopez-Paz, "In Search of Lost Domain Generalization", ICLR 2021, name the first
//! three and why the last is no method).

use dissim_api::formats::EpochLog;

/// A rule that picks one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The best accuracy on held-out digits, on training backgrounds. Needs no other backgrounds.
    IdVal,
    /// The best accuracy on held-out digits, on held-out backgrounds: the data of another domain.
    BgVal,
    /// The best accuracy on the OOD test itself: an upper bound, and no selection one may make.
    Oracle,
}

impl Selector {
    /// All selectors.
    pub const ALL: [Self; 3] = [Self::IdVal, Self::BgVal, Self::Oracle];

    /// The names of its columns: epoch, accuracy on the ID test, accuracy on the OOD test.
    pub fn columns(self) -> [&'static str; 3] {
        match self {
            Self::IdVal => ["epoch@id_val", "id_acc@id_val", "ood_acc@id_val"],
            Self::BgVal => ["epoch@bg_val", "id_acc@bg_val", "ood_acc@bg_val"],
            Self::Oracle => ["epoch@oracle", "id_acc@oracle", "ood_acc@oracle"],
        }
    }

    /// The index of the epoch it picks, the first of equals; none where nothing was measured.
    pub fn pick(self, epochs: &[EpochLog], ood: &[Option<f64>]) -> Option<usize> {
        let score = |i: usize| match self {
            Self::IdVal => epochs[i].id_val_acc,
            Self::BgVal => epochs[i].bg_val_acc,
            Self::Oracle => ood.get(i).copied().flatten(),
        };
        let scored = (0..epochs.len()).filter_map(|i| score(i).map(|score| (i, score)));
        scored.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(i, _)| i)
    }
}

/// What one selector came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Selected {
    pub selector: Selector,
    /// 1 for the first.
    pub epoch: Option<f64>,
    pub id_acc: Option<f64>,
    pub ood_acc: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(id_val_acc: Option<f64>, bg_val_acc: Option<f64>) -> EpochLog {
        let text = r#"{"epoch":1,"cross_entropy":1,"penalty":0,"pairs":0,"lambda":0,
            "embedding_norm":1,"zero_norm":0,"active":1,"train_acc":1}"#;
        EpochLog { id_val_acc, bg_val_acc, ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn each_reads_its_own_score_and_the_first_of_equals_wins() {
        let epochs =
            [log(Some(0.7), Some(0.3)), log(Some(0.9), Some(0.5)), log(Some(0.9), Some(0.4))];
        let ood = [Some(0.2), Some(0.25), Some(0.3)];
        let picks = Selector::ALL.map(|s| s.pick(&epochs, &ood));
        assert_eq!(picks, [Some(1), Some(1), Some(2)]);
        assert_eq!(Selector::BgVal.pick(&[log(Some(0.7), None)], &[None]), None);
        assert_eq!(Selector::Oracle.pick(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn no_epoch_scores_more_than_the_picked(scores in prop::collection::vec(0..5u8, 1..20)) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let epochs: Vec<_> = scores.iter().map(|&s| log(None, Some(s))).collect();
            let picked = Selector::BgVal.pick(&epochs, &[]).unwrap();
            prop_assert!(scores.iter().all(|s| *s <= scores[picked]));
            prop_assert!(scores[..picked].iter().all(|s| *s < scores[picked]));
        }
    }
}
