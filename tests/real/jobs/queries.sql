-- The sqlite3 job's queries: small allocations by the million, for values, sorts, JSON and group_concat.
SELECT count(*), sum(n), max(length(l)) FROM
    (SELECT user, count(*) AS n, group_concat(kind || ':' || upper(body)) AS l FROM event WHERE id % 3 = 0 GROUP BY user);
SELECT sum(length(j)) FROM
    (SELECT json_object('id', id, 'kind', kind, 'body', body, 'list', json_array(id, amount, user)) AS j FROM event
        WHERE id % 10 = 1);
SELECT a.kind, count(*) FROM event a JOIN event b ON a.user = b.user AND a.id < b.id
    WHERE a.id % 19 = 2 GROUP BY a.kind ORDER BY 2 DESC, 1 LIMIT 5;
UPDATE event SET body = body || kind || body WHERE id % 7 = 3;
DELETE FROM event WHERE id % 11 = 5;
SELECT id, replace(body, 'o', '00') FROM event WHERE id % 5 = 1 ORDER BY substr(body, 3), kind DESC, id LIMIT 3 OFFSET 100000;
SELECT count(*), sum(amount), sum(length(body)) FROM event;
VACUUM;
