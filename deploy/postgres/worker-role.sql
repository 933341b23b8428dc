-- The role that `eureka worker` connects as: it reads and writes rows and can change no schema. Run by the owner of the
-- database (who also runs `eureka db upgrade`), in that database, after the first upgrade:
--   psql -d eureka -f deploy/postgres/worker-role.sql
-- Then give it a password (`\password eureka_worker`), and in pg_hba.conf a line that asks for TLS and nothing less:
--   hostssl  eureka  eureka_worker  10.0.0.0/8  scram-sha-256
-- DATABASE_URL=postgresql://eureka_worker:...@db.example/eureka?sslmode=verify-full&sslrootcert=/run/secrets/ca.crt
CREATE ROLE eureka_worker LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO eureka_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO eureka_worker;
REVOKE INSERT, UPDATE, DELETE ON eureka_schema_version FROM eureka_worker;
-- tables of later upgrades
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO eureka_worker;
