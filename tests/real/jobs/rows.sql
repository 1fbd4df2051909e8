-- The sqlite3 job: a million rows, in memory, so that every page is a block from malloc. Output is exact: no REAL is printed.
PRAGMA cache_size = -200000;
CREATE TABLE event(id INTEGER PRIMARY KEY, user INTEGER, kind TEXT, body TEXT, amount INTEGER);
INSERT INTO event
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
    SELECT i, (i * 7919) % 50021, 'kind-' || (i % 37), substr('the quick brown fox jumps over the lazy dog', 1 + i % 30, i % 41),
        (i * 2654435761) % 10007
    FROM n;
CREATE INDEX event_user ON event(user, kind);
SELECT count(*), sum(amount), sum(length(body)) FROM event;
SELECT kind, count(*), sum(amount), max(body) FROM event GROUP BY kind ORDER BY kind;
CREATE TABLE word(word TEXT PRIMARY KEY, seen INTEGER) WITHOUT ROWID;
INSERT INTO word SELECT substr(body, 1, 9) || (id % 5003), 1 FROM event WHERE id % 4 = 0
    ON CONFLICT(word) DO UPDATE SET seen = seen + 1;
SELECT count(*), sum(seen), max(seen) FROM word;
