"""Tables and indexes of the first release.  Frozen: later changes are migrations of their own.

Triggers are not here: `supervisor.schema.migrate` makes them anew from the code after every upgrade.
"""

from supervisor.schema.run_statements import run

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ','now')"
ALPHABET = "'0123456789ABCDEFGHJKMNPQRSTVWXYZ'"
MILLISECONDS = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


def _ulid() -> str:
    """A ULID as one expression of built-in functions: 48 bits of milliseconds, 80 of chance, in base 32."""
    time = [f"substr({ALPHABET}, (({MILLISECONDS} >> {shift}) & 31) + 1, 1)" for shift in range(45, -1, -5)]
    chance = [f"substr({ALPHABET}, (random() & 31) + 1, 1)"] * 16
    return "(" + " || ".join(time + chance) + ")"


SQLITE = (
    f"""
    CREATE TABLE task_queue (
        id TEXT PRIMARY KEY NOT NULL DEFAULT {_ulid()},
        user_openid TEXT NOT NULL,
        type TEXT NOT NULL,
        params TEXT NOT NULL,
        priority INTEGER NOT NULL DEFAULT 0
            CONSTRAINT priority_is_between_minus_10_and_10 CHECK (priority BETWEEN -10 AND 10),
        run_after TEXT,
        status TEXT NOT NULL DEFAULT 'pending'
            CONSTRAINT status_is_known CHECK
            (status IN ('pending','processing','ai_processing','completed','failed','cancelled')),
        stage TEXT NOT NULL DEFAULT 'queued',
        progress INTEGER NOT NULL DEFAULT 0
            CONSTRAINT progress_is_a_percentage CHECK (progress BETWEEN 0 AND 100),
        work_id TEXT UNIQUE,
        images TEXT,
        error TEXT,
        charge INTEGER NOT NULL DEFAULT 1,
        admitted_charge INTEGER NOT NULL DEFAULT 0
            CONSTRAINT only_a_charge_that_exists_is_admitted CHECK (admitted_charge <= charge),
        picture_count INTEGER NOT NULL DEFAULT 1,
        missing INTEGER NOT NULL DEFAULT 0 CHECK (missing BETWEEN 0 AND picture_count),
        attempt INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        deaths INTEGER NOT NULL DEFAULT 0,
        max_attempts INTEGER NOT NULL DEFAULT 3,
        lease INTEGER NOT NULL DEFAULT 0,
        worker_id TEXT,
        ready INTEGER NOT NULL DEFAULT 0,
        turn INTEGER NOT NULL DEFAULT 0,
        dispatch INTEGER NOT NULL DEFAULT 1,
        dispatched_at TEXT,
        next_poll_at TEXT,
        remote_deadline_at TEXT,
        expires_at TEXT,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW}),
        processing_started_at TEXT,
        deadline_at TEXT,
        finished_at TEXT,
        CONSTRAINT a_pending_task_has_no_worker_and_no_deadline CHECK
            (status <> 'pending' OR finished_at IS NOT NULL OR (worker_id IS NULL AND deadline_at IS NULL)),
        CONSTRAINT a_processing_task_has_a_worker_and_a_deadline CHECK
            (status <> 'processing' OR (worker_id IS NOT NULL AND deadline_at IS NOT NULL)),
        CONSTRAINT a_handed_off_task_has_a_next_poll CHECK (status <> 'ai_processing' OR next_poll_at IS NOT NULL),
        CONSTRAINT a_finished_task_has_a_time CHECK
            (status NOT IN ('completed','failed','cancelled') OR finished_at IS NOT NULL),
        CONSTRAINT a_completed_task_is_at_100_percent CHECK (status <> 'completed' OR progress = 100),
        CONSTRAINT a_failed_task_has_an_error CHECK (status <> 'failed' OR error IS NOT NULL)
    )""",
    # The pick reads the heads of this index, one open type at a time.
    """CREATE INDEX task_queue_pick ON task_queue (type, priority DESC, turn, created_at, id)
        WHERE status = 'pending' AND ready = 1 AND dispatched_at IS NULL""",
    """CREATE INDEX task_queue_unadmitted ON task_queue (user_openid, id)
        WHERE status = 'pending' AND admitted_charge <> charge""",
    """CREATE INDEX task_queue_unripe ON task_queue (run_after)
        WHERE status = 'pending' AND ready = 0 AND admitted_charge = charge""",
    """CREATE INDEX task_queue_dispatched ON task_queue (dispatched_at)
        WHERE status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL""",
    "CREATE INDEX task_queue_next_poll ON task_queue (next_poll_at) WHERE status = 'ai_processing'",
    """CREATE INDEX task_queue_held ON task_queue (worker_id)
        WHERE status IN ('processing','ai_processing') AND worker_id IS NOT NULL""",
    """CREATE INDEX task_queue_open ON task_queue (user_openid, priority, turn)
        WHERE status IN ('pending','processing','ai_processing')""",
    """CREATE INDEX task_queue_active ON task_queue (status, type)
        WHERE status IN ('pending','processing','ai_processing')""",
    """CREATE INDEX task_queue_expiry ON task_queue (expires_at)
        WHERE status IN ('pending','processing','ai_processing') AND expires_at IS NOT NULL""",
    "CREATE INDEX task_queue_user ON task_queue (user_openid, created_at DESC, id DESC)",
    "CREATE INDEX task_queue_finished ON task_queue (type, finished_at) WHERE finished_at IS NOT NULL",
    f"""
    CREATE TABLE account (
        user_openid TEXT PRIMARY KEY NOT NULL,
        balance INTEGER NOT NULL DEFAULT 0 CONSTRAINT balance_is_never_below_zero CHECK (balance >= 0),
        seq INTEGER NOT NULL DEFAULT 0,
        epoch TEXT NOT NULL DEFAULT (lower(hex(randomblob(6)))),
        created_at TEXT NOT NULL DEFAULT ({NOW})
    ) WITHOUT ROWID""",
    f"""
    CREATE TABLE works (
        id TEXT PRIMARY KEY NOT NULL,
        user_openid TEXT NOT NULL,
        task_id TEXT NOT NULL UNIQUE,
        type TEXT NOT NULL,
        status TEXT NOT NULL,
        stage TEXT NOT NULL,
        progress INTEGER NOT NULL,
        images TEXT NOT NULL DEFAULT '[]',
        error TEXT,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW})
    )""",
    "CREATE INDEX works_user ON works (user_openid, created_at DESC, id DESC)",
    f"""
    CREATE TABLE credit_entry (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user_openid TEXT NOT NULL,
        task_id TEXT,
        charge INTEGER,
        kind TEXT NOT NULL CHECK (kind IN ('grant','debit','refund')),
        amount INTEGER NOT NULL,
        reference TEXT,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        CONSTRAINT a_debit_is_negative_all_else_positive CHECK ((kind = 'debit') = (amount < 0) AND amount <> 0),
        CONSTRAINT a_task_is_debited_and_refunded_once_a_charge UNIQUE (task_id, charge, kind)
    )""",
    "CREATE UNIQUE INDEX credit_entry_signup ON credit_entry (user_openid) WHERE reference = 'signup'",
    """CREATE UNIQUE INDEX credit_entry_reference ON credit_entry (reference)
        WHERE reference IS NOT NULL AND reference <> 'signup'""",
    "CREATE INDEX credit_entry_user ON credit_entry (user_openid, id)",
    f"""
    CREATE TABLE work_change (
        log_id INTEGER PRIMARY KEY AUTOINCREMENT,
        user_openid TEXT NOT NULL,
        seq INTEGER NOT NULL,
        data_type TEXT NOT NULL,
        queue_type TEXT NOT NULL,
        doc_id TEXT NOT NULL,
        doc TEXT NOT NULL,
        updated_fields TEXT,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        UNIQUE (user_openid, seq)
    )""",
    "CREATE INDEX work_change_age ON work_change (created_at)",
    f"""
    CREATE TABLE worker (
        id TEXT PRIMARY KEY NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        slots INTEGER NOT NULL,
        busy INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live','draining','dead','gone')),
        beat INTEGER NOT NULL DEFAULT 0,
        started_at TEXT NOT NULL DEFAULT ({NOW}),
        seen_at TEXT NOT NULL DEFAULT ({NOW})
    )""",
    "CREATE INDEX worker_present ON worker (state) WHERE state IN ('live','draining','dead')",
    f"""
    CREATE TABLE image (
        id TEXT PRIMARY KEY NOT NULL,
        user_openid TEXT NOT NULL,
        key TEXT NOT NULL UNIQUE,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT ({NOW})
    )""",
    "CREATE INDEX image_user ON image (user_openid, id)",
    f"""
    CREATE TABLE result_file (
        task_id TEXT NOT NULL,
        charge INTEGER NOT NULL,
        params_hash TEXT NOT NULL,
        n INTEGER NOT NULL,
        key TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        PRIMARY KEY (task_id, charge, params_hash, n)
    )""",
    f"""
    CREATE TABLE remote_job (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        task_id TEXT NOT NULL,
        charge INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        provider TEXT NOT NULL,
        reference TEXT NOT NULL UNIQUE,
        remote_id TEXT,
        state TEXT NOT NULL CHECK (state IN ('submitting','waiting','done','failed','lost','cancelled','unknown')),
        cancel_wanted INTEGER NOT NULL DEFAULT 0,
        created_at TEXT NOT NULL DEFAULT ({NOW}),
        updated_at TEXT NOT NULL DEFAULT ({NOW})
    )""",
    "CREATE INDEX remote_job_task ON remote_job (task_id, charge)",
    "CREATE INDEX remote_job_open ON remote_job (provider, state) WHERE state IN ('submitting','waiting')",
    f"""
    CREATE TABLE sweep_run (
        minute TEXT PRIMARY KEY NOT NULL,
        started_at TEXT NOT NULL DEFAULT ({NOW}),
        finished_at TEXT,
        counts TEXT NOT NULL DEFAULT '{{}}'
    )""",
    """
    CREATE TABLE dispatcher (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        holder TEXT,
        term INTEGER NOT NULL DEFAULT 0,
        beat INTEGER NOT NULL DEFAULT 0
    )""",
    "INSERT INTO dispatcher (id) VALUES (1)",
    "CREATE TABLE fair_clock (priority INTEGER PRIMARY KEY, turn INTEGER NOT NULL)",
    # One row, so that a woken process learns with one read whether anything happened that concerns it.
    "CREATE TABLE wake (id INTEGER PRIMARY KEY CHECK (id = 1), dispatch INTEGER NOT NULL, feed INTEGER NOT NULL)",
    "INSERT INTO wake VALUES (1, 0, 0)",
    # What triggers need of the settings; `shift` moves the database's clock in tests, as a strftime modifier.
    """
    CREATE TABLE rule (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        signup_grant INTEGER NOT NULL DEFAULT 0,
        shift TEXT NOT NULL DEFAULT '+0 seconds'
    )""",
    "INSERT INTO rule (id) VALUES (1)",
    # Counters and histograms of what workers did, added up in the transaction that did it.
    """
    CREATE TABLE metric (
        name TEXT NOT NULL,
        labels TEXT NOT NULL DEFAULT '{}',
        bucket TEXT NOT NULL DEFAULT '',
        value REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (name, labels, bucket)
    ) WITHOUT ROWID""",
)

# On PostgreSQL `darkroom_now()` and `darkroom_ulid()` exist before any table does (supervisor.schema.migrate).  Ids and
# whatever orders rows are compared by bytes, as on SQLite.  Queue-like tables are vacuumed early and keep room for
# updates in place.
_ID = 'TEXT COLLATE "C"'
_BUSY = (
    "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,"
    " autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05"
)
_OPEN = "status IN ('pending','processing','ai_processing')"

POSTGRES = (
    # What triggers need of the settings; `shift` moves the database's clock in tests.
    """
    CREATE TABLE rule (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        signup_grant INTEGER NOT NULL DEFAULT 0,
        shift INTERVAL NOT NULL DEFAULT '0',
        triggers TEXT NOT NULL DEFAULT ''
    )""",
    "INSERT INTO rule (id) VALUES (1)",
    f"""
    CREATE TABLE task_queue (
        id {_ID} CONSTRAINT a_task_has_an_id_of_its_own PRIMARY KEY DEFAULT darkroom_ulid()
            CONSTRAINT id_is_1_to_64_letters_digits_underscores_or_hyphens CHECK (id ~ '^[A-Za-z0-9_-]{{1,64}}$'),
        user_openid {_ID} NOT NULL,
        type {_ID} NOT NULL,
        params JSONB NOT NULL,
        priority INTEGER NOT NULL DEFAULT 0
            CONSTRAINT priority_is_between_minus_10_and_10 CHECK (priority BETWEEN -10 AND 10),
        run_after TIMESTAMPTZ(3),
        status {_ID} NOT NULL DEFAULT 'pending'
            CONSTRAINT status_is_known CHECK
            (status IN ('pending','processing','ai_processing','completed','failed','cancelled')),
        stage TEXT NOT NULL DEFAULT 'queued',
        progress INTEGER NOT NULL DEFAULT 0
            CONSTRAINT progress_is_a_percentage CHECK (progress BETWEEN 0 AND 100),
        work_id {_ID} CONSTRAINT a_work_belongs_to_one_task UNIQUE,
        images JSONB,
        error JSONB,
        charge INTEGER NOT NULL DEFAULT 1,
        admitted_charge INTEGER NOT NULL DEFAULT 0
            CONSTRAINT only_a_charge_that_exists_is_admitted CHECK (admitted_charge <= charge),
        picture_count INTEGER NOT NULL DEFAULT 1,
        missing INTEGER NOT NULL DEFAULT 0
            CONSTRAINT only_pictures_that_were_asked_for_are_missing CHECK (missing BETWEEN 0 AND picture_count),
        attempt INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        deaths INTEGER NOT NULL DEFAULT 0,
        max_attempts INTEGER NOT NULL DEFAULT 3,
        lease INTEGER NOT NULL DEFAULT 0,
        worker_id {_ID},
        ready INTEGER NOT NULL DEFAULT 0,
        turn INTEGER NOT NULL DEFAULT 0,
        dispatch INTEGER NOT NULL DEFAULT 1,
        dispatched_at TIMESTAMPTZ(3),
        next_poll_at TIMESTAMPTZ(3),
        remote_deadline_at TIMESTAMPTZ(3),
        expires_at TIMESTAMPTZ(3),
        created_at TIMESTAMPTZ(3) NOT NULL,
        updated_at TIMESTAMPTZ(3) NOT NULL,
        processing_started_at TIMESTAMPTZ(3),
        deadline_at TIMESTAMPTZ(3),
        finished_at TIMESTAMPTZ(3),
        CONSTRAINT a_pending_task_has_no_worker_and_no_deadline CHECK
            (status <> 'pending' OR (worker_id IS NULL AND deadline_at IS NULL AND finished_at IS NULL)),
        CONSTRAINT a_processing_task_has_a_worker_and_a_deadline CHECK
            (status <> 'processing' OR (worker_id IS NOT NULL AND deadline_at IS NOT NULL)),
        CONSTRAINT a_handed_off_task_has_a_next_poll CHECK (status <> 'ai_processing' OR next_poll_at IS NOT NULL),
        CONSTRAINT a_finished_task_has_a_time CHECK
            (status NOT IN ('completed','failed','cancelled') OR finished_at IS NOT NULL),
        CONSTRAINT a_completed_task_is_at_100_percent CHECK (status <> 'completed' OR progress = 100),
        CONSTRAINT a_failed_task_has_an_error CHECK (status <> 'failed' OR error IS NOT NULL)
    ) WITH (fillfactor = 80, {_BUSY})""",
    """CREATE INDEX task_queue_pick ON task_queue (type, priority DESC, turn, created_at, id)
        WHERE status = 'pending' AND ready = 1 AND dispatched_at IS NULL""",
    """CREATE INDEX task_queue_unadmitted ON task_queue (user_openid, id)
        WHERE status = 'pending' AND admitted_charge <> charge""",
    """CREATE INDEX task_queue_unripe ON task_queue (run_after)
        WHERE status = 'pending' AND ready = 0 AND admitted_charge = charge""",
    """CREATE INDEX task_queue_dispatched ON task_queue (dispatched_at)
        WHERE status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL""",
    "CREATE INDEX task_queue_next_poll ON task_queue (next_poll_at) WHERE status = 'ai_processing'",
    """CREATE INDEX task_queue_held ON task_queue (worker_id)
        WHERE status IN ('processing','ai_processing') AND worker_id IS NOT NULL""",
    f"CREATE INDEX task_queue_open ON task_queue (user_openid, priority, turn) WHERE {_OPEN}",
    # The type first, so that this index never looks good for a question that names only a status: before a table's
    # first ANALYZE the planner takes all statuses for equally rare.
    f"CREATE INDEX task_queue_active ON task_queue (type, status) WHERE {_OPEN}",
    f"CREATE INDEX task_queue_expiry ON task_queue (expires_at) WHERE {_OPEN} AND expires_at IS NOT NULL",
    "CREATE INDEX task_queue_user ON task_queue (user_openid, created_at DESC, id DESC)",
    "CREATE INDEX task_queue_finished ON task_queue (type, finished_at) WHERE finished_at IS NOT NULL",
    f"""
    CREATE TABLE account (
        user_openid {_ID} CONSTRAINT a_user_has_one_account PRIMARY KEY,
        balance INTEGER NOT NULL DEFAULT 0 CONSTRAINT balance_is_never_below_zero CHECK (balance >= 0),
        seq BIGINT NOT NULL DEFAULT 0,
        epoch TEXT NOT NULL DEFAULT substr(replace(gen_random_uuid()::text, '-', ''), 1, 12),
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now()
    ) WITH (fillfactor = 50, {_BUSY})""",
    f"""
    CREATE TABLE works (
        id {_ID} PRIMARY KEY,
        user_openid {_ID} NOT NULL,
        task_id {_ID} NOT NULL CONSTRAINT a_task_has_one_work UNIQUE,
        type {_ID} NOT NULL,
        status {_ID} NOT NULL,
        stage TEXT NOT NULL,
        progress INTEGER NOT NULL,
        images JSONB NOT NULL DEFAULT '[]',
        error JSONB,
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        updated_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now()
    ) WITH (fillfactor = 80, {_BUSY})""",
    "CREATE INDEX works_user ON works (user_openid, created_at DESC, id DESC)",
    f"""
    CREATE TABLE credit_entry (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_openid {_ID} NOT NULL,
        task_id {_ID},
        charge INTEGER,
        kind {_ID} NOT NULL
            CONSTRAINT an_entry_is_a_grant_a_debit_or_a_refund CHECK (kind IN ('grant','debit','refund')),
        amount INTEGER NOT NULL,
        reference {_ID},
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        CONSTRAINT a_debit_is_negative_all_else_positive CHECK ((kind = 'debit') = (amount < 0) AND amount <> 0),
        CONSTRAINT a_task_is_debited_and_refunded_once_a_charge UNIQUE (task_id, charge, kind)
    )""",
    "CREATE UNIQUE INDEX credit_entry_signup ON credit_entry (user_openid) WHERE reference = 'signup'",
    """CREATE UNIQUE INDEX credit_entry_reference ON credit_entry (reference)
        WHERE reference IS NOT NULL AND reference <> 'signup'""",
    "CREATE INDEX credit_entry_user ON credit_entry (user_openid, id)",
    f"""
    CREATE TABLE work_change (
        log_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_openid {_ID} NOT NULL,
        seq BIGINT NOT NULL,
        data_type TEXT NOT NULL,
        queue_type TEXT NOT NULL,
        doc_id {_ID} NOT NULL,
        doc JSONB NOT NULL,
        updated_fields JSONB,
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        CONSTRAINT a_seq_of_a_user_is_one_change UNIQUE (user_openid, seq)
    ) WITH ({_BUSY})""",
    "CREATE INDEX work_change_age ON work_change (created_at)",
    f"""
    CREATE TABLE worker (
        id {_ID} PRIMARY KEY,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        slots INTEGER NOT NULL,
        busy INTEGER NOT NULL DEFAULT 0,
        state {_ID} NOT NULL DEFAULT 'live'
            CONSTRAINT a_worker_is_live_draining_dead_or_gone CHECK (state IN ('live','draining','dead','gone')),
        beat BIGINT NOT NULL DEFAULT 0,
        started_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        seen_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now()
    ) WITH (fillfactor = 50, {_BUSY})""",
    "CREATE INDEX worker_present ON worker (state) WHERE state IN ('live','draining','dead')",
    f"""
    CREATE TABLE image (
        id {_ID} PRIMARY KEY,
        user_openid {_ID} NOT NULL,
        key {_ID} NOT NULL UNIQUE,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        bytes BIGINT NOT NULL,
        sha256 TEXT NOT NULL,
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now()
    )""",
    "CREATE INDEX image_user ON image (user_openid, id)",
    f"""
    CREATE TABLE result_file (
        task_id {_ID} NOT NULL,
        charge INTEGER NOT NULL,
        params_hash {_ID} NOT NULL,
        n INTEGER NOT NULL,
        key TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        PRIMARY KEY (task_id, charge, params_hash, n)
    )""",
    f"""
    CREATE TABLE remote_job (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        task_id {_ID} NOT NULL,
        charge INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        provider {_ID} NOT NULL,
        reference {_ID} NOT NULL CONSTRAINT a_request_has_a_reference_of_its_own UNIQUE,
        remote_id TEXT,
        state {_ID} NOT NULL CONSTRAINT state_of_a_request_is_known CHECK
            (state IN ('submitting','waiting','done','failed','lost','cancelled','unknown')),
        cancel_wanted INTEGER NOT NULL DEFAULT 0,
        created_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        updated_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now()
    )""",
    "CREATE INDEX remote_job_task ON remote_job (task_id, charge)",
    "CREATE INDEX remote_job_open ON remote_job (provider, state) WHERE state IN ('submitting','waiting')",
    f"""
    CREATE TABLE sweep_run (
        minute {_ID} PRIMARY KEY,
        started_at TIMESTAMPTZ(3) NOT NULL DEFAULT darkroom_now(),
        finished_at TIMESTAMPTZ(3),
        counts JSONB NOT NULL DEFAULT '{{}}'
    )""",
    f"""
    CREATE TABLE dispatcher (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        holder TEXT,
        term BIGINT NOT NULL DEFAULT 0,
        beat BIGINT NOT NULL DEFAULT 0
    ) WITH (fillfactor = 10, {_BUSY})""",
    # Which of a connection's transactions was stored last (supervisor/database/postgres/transactions.py).
    f"""
    CREATE TABLE commit_mark (
        writer BIGINT PRIMARY KEY,
        number BIGINT NOT NULL,
        marked_at TIMESTAMPTZ(3) NOT NULL DEFAULT clock_timestamp()
    ) WITH (fillfactor = 10, {_BUSY})""",
    "INSERT INTO dispatcher (id) VALUES (1)",
    f"""CREATE TABLE fair_clock (priority INTEGER PRIMARY KEY, turn INTEGER NOT NULL)
        WITH (fillfactor = 10, {_BUSY})""",
    # A counter that all workers add to would make them wait for each other: they append to metric_delta instead, which
    # the working dispatcher folds into metric.
    f"""
    CREATE TABLE metric (
        name {_ID} NOT NULL,
        labels {_ID} NOT NULL DEFAULT '{{}}',
        bucket {_ID} NOT NULL DEFAULT '',
        value DOUBLE PRECISION NOT NULL DEFAULT 0,
        PRIMARY KEY (name, labels, bucket)
    ) WITH (fillfactor = 50, {_BUSY})""",
    f"""
    CREATE TABLE metric_delta (
        name {_ID} NOT NULL,
        labels {_ID} NOT NULL DEFAULT '{{}}',
        bucket {_ID} NOT NULL DEFAULT '',
        value DOUBLE PRECISION NOT NULL DEFAULT 0
    ) WITH ({_BUSY})""",
)


def up(migrator, db):  # type: ignore[no-untyped-def]
    """Create everything."""
    run(db, sqlite=SQLITE, postgres=POSTGRES)
