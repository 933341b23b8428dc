#!/bin/sh
# Puts a backup back as DATABASE, which must not be there (any more), and takes from every worker that knew it as it
# was before the right to write to it: one that still runs would else go on where it stood and leave a hole.
#   pg_dump --format=custom --file=DUMP DATABASE      is the backup; workers go on meanwhile
#   deploy/postgres/restore.sh DUMP DATABASE          as the role that is to own the tables
# Server, user and password come as for psql (PGHOST, PGUSER, PGPASSFILE …). A backup has the rights of the worker's role
# but not the role: on a new server make it first. The database appears under its name only when it is whole; what an
# interrupted restore left is DATABASE_restoring, to be dropped before the next try.
set -eu
if [ $# != 2 ]; then
  echo "usage: restore.sh DUMP DATABASE" >&2
  exit 2
fi
dump=$1 database=$2
partial=${database}_restoring

sql() { # DATABASE; the statement on standard input
  psql --no-psqlrc --quiet --tuples-only --no-align --dbname="$1" \
    --set=ON_ERROR_STOP=1 --set=partial="$partial" --set=database="$database"
}

if [ ! -r "$dump" ]; then
  echo "restore.sh: $dump cannot be read" >&2
  exit 1
fi
case $database in
*[!A-Za-z0-9_]* | ?????????????????????????????????????????????????????*)
  echo "restore.sh: a name of at most 52 letters, digits and _ is wanted, not $database" >&2
  exit 1
  ;;
esac
if [ -n "$(echo "SELECT 1 FROM pg_database WHERE datname = :'database'" | sql postgres)" ]; then
  echo "restore.sh: the database $database is there: drop or rename it first" >&2
  exit 1
fi
createdb --template=template0 --encoding=UTF8 "$partial"
pg_restore --exit-on-error --single-transaction --no-owner --dbname="$partial" "$dump"
# Epochs that a worker was given after the backup must never be given again: a write in their name would be let through.
echo 'UPDATE partitions SET epoch = epoch + 1000000' | sql "$partial"
echo 'ALTER DATABASE :"partial" RENAME TO :"database"' | sql postgres
echo "restore.sh: $database is back; now: eureka db check"
