"""Names that MLflow and Optuna store for us: tags, the kinds of runs, and the attributes of studies and trials.

Stored runs and studies have these names: a changed value here is a changed file format. This module imports nothing.
"""


class Tag:
    """MLflow tags. A name that ends in a dot or an underscore is the beginning of several tags."""

    # What a run is: set when it begins; read by lists, filters, comparisons and the command line's completion.
    KIND = "harness.kind"  # one of `Kind`
    EXPERIMENT = "harness.experiment"  # the experiment's name
    ID = "harness.id"  # our own id of the run, which also names its folder in the spool
    VERSION = "harness.version"  # of harness

    # The process that writes the run: set when it begins or is resumed; read by recovery, which looks for dead ones.
    HOST = "harness.host"
    PID = "harness.pid"
    JOB = "harness.job"  # the job of a scheduler that the process is part of; the same after a requeue
    PROCESS_START = "harness.process_start"  # seconds since 1970; tells a process from a later one of the same id

    # The machine and the source: set by `runs.provenance` and `tracking.git`; shown, never computed with.
    DEVICE = "harness.device"  # name of the GPU, or cpu, mps
    THREADS = "harness.threads"  # of PyTorch
    GIT_DIRTY = "harness.git.dirty"  # true, false

    # What a run is trained on and scored with: set by `results.changes`, which compares it when a run is resumed.
    DATASET = "harness.dataset"  # name and fingerprint of the training images
    DATA_ = "harness.data."  # + split: number of images and of classes, fingerprint
    CODE_ = "harness.code."  # + role: file and hash of a custom class
    JUDGE = "harness.judge"  # name and hash; of the scores of a run
    JUDGE_ = "harness.judge."  # + name: the same, of scores by a further judge (`results.evaluate`)
    CHANGED = "harness.changed"  # what of these has changed since, as --allow-changes allowed

    # How far a run is: set by the training loop at its end; read by lists, resuming and studies.
    EPOCH = "harness.epoch"  # the last epoch; the last thing that is logged before the status
    EPOCHS = "harness.epochs"  # planned, where --epochs has extended the run; the param stays
    BEST_EPOCH = "harness.best_epoch"
    BEST_ = "harness.best_"  # + metric: the best score while training (`PrimaryScore.tag`)
    SECONDS = "harness.seconds"  # worked on, until the run was last resumed (`tracking.durations`)
    RESUMED = "harness.resumed"  # when that was, in milliseconds since 1970

    # How a run has ended, where it did not reach its last epoch: removed from a run that is resumed.
    DIVERGED = "harness.diverged"  # which number was not finite, and when
    PRUNED = "harness.pruned"  # the epoch
    ERROR = "harness.error"  # type and message of an exception

    # Of replicates (`runs.seeds`).
    SEEDS = "harness.seeds"  # their number
    SEEDS_ENDED = "harness.seeds.ended"
    BATCH_RUNS = "harness.batch_runs"  # how many are trained at once, as one batch

    # Of studies and their trials (`tuning`).
    STUDY = "harness.study"  # name of the study; also of its trials and of the runs that confirm it
    STORAGE = "harness.storage"  # URL of Optuna's storage, or the path of its journal
    TRIAL = "harness.trial"  # number of the trial
    TRIALS_ = "harness.trials."  # + state: number of trials
    BEST_TRIAL = "harness.best_trial"  # number of the trial
    BEST_VALUE = "harness.best_value"
    BEST_VALUE_OF_ = "harness.best."  # + dotted path: the best trial's value
    DRAWN_TRIAL = "harness.drawn_trial"  # the trial whose pictures the study's run repeats
    FRONT = "harness.front"  # numbers of the trials on the Pareto front, if the study has several metrics
    VERDICT = "harness.verdict"  # how sure it is that the best trial is the best, if trials have several seeds
    SCORED_TRIAL = "harness.scored_trial"  # the trial whose scores the study's run repeats

    # Of the confirmation of a study (`tuning.confirm`): the first two of the study, the others of its replicates.
    CONFIRMED = "harness.confirmed"  # the verdict
    CONFIRMED_ = "harness.confirmed."  # + name: a number of the verdict
    CONFIRM = "harness.confirm"  # best or own: whose values these replicates have
    CONFIRM_BUDGET = "harness.confirm.budget"
    CONFIRM_SEEDS = "harness.confirm.seeds"
    CONFIRM_TRIAL = "harness.confirm.trial"  # of best: number of the trial

    # Of logged models and of registered versions of models (`tracking.shipping`, `tracking.registry`).
    EVENT = "harness.event"  # key of the event in the spool that a logged model was made of
    MODEL = "harness.model"  # id of the logged model that a version was made of
    RUN_ID = "harness.run_id"  # MLflow's id of the run that a version was made of
    TEST_ = "harness.test_"  # + metric: score of the run on the test split


class Kind:
    """Values of `Tag.KIND`."""

    RUN = "run"
    REPLICATES = "replicates"  # the parent of runs that differ in their seed
    STUDY = "study"  # the parent of trials
    TRIAL = "trial"
    SEED = "seed"  # a run of a trial that is trained under several seeds
    CHECK = "check"  # of `harness check`
    CONFIRM = "confirm"  # a run of replicates that confirm a study


class StudyAttribute:
    """User attributes of an Optuna study (`tuning.trials`)."""

    SETTINGS = "harness.settings"  # `tuning.settings`, as JSON
    IDENTITY = "harness.identity"  # what its trials are trained on and scored with: tags of `results.changes`
    PARENT = "harness.parent"  # MLflow's id of the study's run
    TOTAL = "harness.total"  # number of trials that were asked for
    KEPT = "harness.kept"  # when a process last kept the study's run, in seconds since 1970


class TrialAttribute:
    """User attributes of an Optuna trial (`tuning.trials`); `Tag.CHANGED` is one too."""

    RUN_ID = "harness.run_id"  # MLflow's id of its run
    PROCESS = "harness.process"  # the tags of the process that works on it, and when it last did
    ATTEMPT = "harness.attempt"  # counted from 1
    AGAIN = "harness.again"  # its process died: it waits for another one
    RETRIED = "harness.retried"  # another trial has taken its place
    RETRY_OF = "harness.retry_of"  # number of the trial whose place it takes
    SURPLUS = "harness.surplus"  # drawn beyond the number of trials that was asked for
    CUSTOM = "harness.experiment.custom"  # has the experiment's own values
    SEED_SCORES = "harness.seed_scores"  # its scores by seed, if it has several seeds
    RACING = "harness.racing"  # it is in a race, and may get more seeds: its value so far
    NEEDED_SEEDS = "harness.needed_seeds"  # of a race: number of seeds that it gets now
    MEASURED = "harness.measured"  # its metrics by name, if the study has several, or constraints
    SEED_MEASURED = "harness.seed_measured"  # the same by seed
    FROM = "harness.from"  # study and number of the trial that it was taken over from
    SCHEDULE = "harness.schedule"  # of a population: the values that its weights were trained with, by path and epoch
    VALUES = "harness.values"  # of a population: the values that it was trained with itself, by path and epoch
    PARENTS = "harness.parents"  # of a population: after which epochs it copied which trial, as pairs
    GIVEN_UP = "harness.given_up"  # between seeds: number of seeds that it had
    PRUNED = "harness.pruned"  # the epoch
    DIVERGED = "harness.diverged"  # as the tag
    ERROR = "harness.error"  # as the tag
