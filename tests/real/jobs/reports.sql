-- The queries of the postgres job, after pgbench. Everything is ordered: the same output on every run.
-- psql -v rows=N
\pset format unaligned
SELECT (SELECT sum(abalance) FROM pgbench_accounts) accounts, (SELECT sum(tbalance) FROM pgbench_tellers) tellers,
       (SELECT sum(bbalance) FROM pgbench_branches) branches, (SELECT sum(delta) FROM pgbench_history) history,
       (SELECT count(*) FROM pgbench_history) transactions;
SELECT md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid)) FROM pgbench_accounts WHERE abalance <> 0;
SELECT md5(string_agg(concat_ws(':', tid, bid, aid, delta), ',' ORDER BY tid, bid, aid, delta)) FROM pgbench_history;

CREATE TABLE item AS
  SELECT g AS id, g % 97 AS parent, md5(g::text) AS code, repeat('x', g % 60) || g AS body FROM generate_series(1, :rows) g;
CREATE INDEX ON item (parent, code);
ANALYZE item;
SELECT parent, count(*), sum(length(body)), md5(string_agg(body, ',' ORDER BY id DESC)) FROM item GROUP BY parent ORDER BY parent;
SELECT md5(jsonb_object_agg(parent, codes)::text) FROM
  (SELECT parent, jsonb_agg(jsonb_build_object('id', id, 'code', code, 'parts', regexp_split_to_array(code, '[a-c]')) ORDER BY id) codes
     FROM item WHERE id < :rows / 4 GROUP BY parent) grouped;
SELECT a.parent, count(*), max(b.body) FROM item a JOIN item b ON left(a.code, 4) = left(b.code, 4) AND a.id < b.id
 GROUP BY a.parent ORDER BY 2 DESC, 1 LIMIT 10;
SELECT md5(string_agg(id || ':' || rank, ',' ORDER BY id)) FROM
  (SELECT id, rank() OVER (PARTITION BY parent ORDER BY code COLLATE "C") FROM item) ranked;
WITH RECURSIVE path(id, step, seen) AS (
  SELECT 1, 0, ARRAY[1]
  UNION ALL SELECT (id * 31 + 7) % 10007, step + 1, seen || id FROM path WHERE step < 1000)
SELECT count(*), sum(id), sum(cardinality(seen)) FROM path;
SET jit_above_cost = 0; -- once through LLVM
SELECT parent % 7, count(*), sum((id * 3 + parent) % 11), sum(length(code)) FROM item WHERE id % 3 <> 1 GROUP BY 1 ORDER BY 1;
RESET jit_above_cost;
DO $$
DECLARE
  texts text[] := '{}';
BEGIN
  FOR i IN 1..5000 LOOP
    texts := array_append(texts, repeat(chr(97 + i % 26), i % 50));
    IF i % 10 = 0 THEN EXECUTE format('SELECT %L::text, %s', texts[i], i); END IF;
  END LOOP;
  UPDATE item SET body = array_to_string(texts[id % 100 : id % 100 + 20], '-') WHERE id <= 1000;
END $$;
SELECT md5(string_agg(body, ',' ORDER BY id)) FROM item WHERE id <= 1000;
