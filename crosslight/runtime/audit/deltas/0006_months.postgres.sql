-- The patients of an act are named once a year, as studies are: a number stands for all of them together, and an act is
-- found by each through audit_patient_whom. Acts of audit_patient_act stay as they are.
CREATE TABLE audit_whom (
    number BIGINT PRIMARY KEY,
    until BIGINT NOT NULL,
    patients TEXT NOT NULL
);
CREATE TABLE audit_patient_whom (
    patient BIGINT NOT NULL,
    whom BIGINT NOT NULL,
    PRIMARY KEY (patient, whom)
);
CREATE FUNCTION audit_whom_expires() RETURNS trigger AS 'BEGIN IF (SELECT until FROM audit_whom WHERE number = OLD.whom) <= (SELECT max(before_ms) FROM audit_expiry) THEN RETURN OLD; END IF; RAISE EXCEPTION ''the audit is append-only''; END' LANGUAGE plpgsql;
CREATE TRIGGER audit_whom_kept BEFORE UPDATE ON audit_whom FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_whom_stays BEFORE DELETE ON audit_whom FOR EACH ROW EXECUTE FUNCTION audit_name_expires();
CREATE TRIGGER audit_whom_whole BEFORE TRUNCATE ON audit_whom FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_patient_whom_kept BEFORE UPDATE ON audit_patient_whom FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_patient_whom_stays BEFORE DELETE ON audit_patient_whom FOR EACH ROW EXECUTE FUNCTION audit_whom_expires();
CREATE TRIGGER audit_patient_whom_whole BEFORE TRUNCATE ON audit_patient_whom FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

-- Acts and outcomes lie in parts, one a month. An act's number begins with its month (months since 1970, times 2^40), so
-- that an outcome lies in its act's month, whenever it comes. What is there becomes the first part, as it is; what no part
-- is for (a clock that is far off) lies in the last.
ALTER TABLE audit_act RENAME TO audit_act_older;
ALTER INDEX audit_act_pkey RENAME TO audit_act_older_pkey;
ALTER TABLE audit_act_older ALTER COLUMN seq DROP IDENTITY;
ALTER TABLE audit_act_older ADD COLUMN whom BIGINT;
DROP TRIGGER audit_act_kept ON audit_act_older;
DROP TRIGGER audit_act_stays ON audit_act_older;
CREATE TABLE audit_act (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    said BIGINT NOT NULL,
    whom BIGINT,
    correlation BYTEA NOT NULL,
    body BYTEA NOT NULL,
    studies BYTEA NOT NULL
) PARTITION BY RANGE (seq);
CREATE INDEX audit_act_whom ON audit_act (whom) WHERE whom IS NOT NULL;
CREATE SEQUENCE audit_act_seq OWNED BY audit_act.seq;
SELECT setval('audit_act_seq', max(seq)) FROM audit_act_older HAVING max(seq) IS NOT NULL;
ALTER TABLE audit_act ATTACH PARTITION audit_act_older FOR VALUES FROM (MINVALUE) TO (1099511627776);
CREATE TABLE audit_act_rest PARTITION OF audit_act DEFAULT;
CREATE TRIGGER audit_act_kept BEFORE UPDATE ON audit_act FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_act_stays BEFORE DELETE ON audit_act FOR EACH ROW EXECUTE FUNCTION audit_act_expires();
CREATE TRIGGER audit_act_whole BEFORE TRUNCATE ON audit_act FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_act_whole BEFORE TRUNCATE ON audit_act_rest FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
ALTER TABLE audit_outcome RENAME TO audit_outcome_older;
ALTER INDEX audit_outcome_pkey RENAME TO audit_outcome_older_pkey;
DROP TRIGGER audit_outcome_kept ON audit_outcome_older;
DROP TRIGGER audit_outcome_stays ON audit_outcome_older;
CREATE TABLE audit_outcome (
    act BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    outcome TEXT NOT NULL
) PARTITION BY RANGE (act);
ALTER TABLE audit_outcome ATTACH PARTITION audit_outcome_older FOR VALUES FROM (MINVALUE) TO (1099511627776);
CREATE TABLE audit_outcome_rest PARTITION OF audit_outcome DEFAULT;
CREATE TRIGGER audit_outcome_kept BEFORE UPDATE ON audit_outcome FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_outcome_stays BEFORE DELETE ON audit_outcome FOR EACH ROW EXECUTE FUNCTION audit_of_act_expires();
CREATE TRIGGER audit_outcome_whole BEFORE TRUNCATE ON audit_outcome FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER audit_outcome_whole BEFORE TRUNCATE ON audit_outcome_rest FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

-- Makes the parts of this month and the next two, as their owner: the service's own role may call it, and make no table by
-- itself. Whoever may read all may read the new part (pg_dump reads each by its name). A month of which the last part has
-- rows already stays there.
CREATE FUNCTION audit_make_months() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    today DATE := (now() AT TIME ZONE 'UTC')::date;
    first INTEGER := (extract(year FROM today)::integer - 1970) * 12 + extract(month FROM today)::integer - 1;
    made INTEGER := 0;
    parent TEXT;
    part TEXT;
    reader RECORD;
BEGIN
    PERFORM pg_advisory_xact_lock(4851018893016617043);
    FOR month IN first .. first + 2 LOOP
        FOREACH parent IN ARRAY ARRAY['audit_act', 'audit_outcome'] LOOP
            part := parent || to_char(make_date(1970 + month / 12, month % 12 + 1, 1), '_YYYY_MM');
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part, month::bigint << 40, (month + 1)::bigint << 40);
                EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()', parent || '_whole', part);
                FOR reader IN
                    SELECT DISTINCT r.rolname FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
                    WHERE c.oid = to_regclass(parent) AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
                LOOP
                    EXECUTE format('GRANT SELECT ON %I TO %I', part, reader.rolname);
                END LOOP;
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                NULL;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION audit_make_months() FROM PUBLIC;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION audit_make_months() SET search_path = %I, pg_temp', current_schema());
    EXECUTE 'ALTER FUNCTION audit_make_months() SET lock_timeout = ''3s''';
END $$;
SELECT audit_make_months();
