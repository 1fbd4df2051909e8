// The node job: what of it reaches malloc: buffers of all sizes, zlib, JSON, worker threads.   node script.js ROUNDS
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const zlib = require('zlib');
const crypto = require('crypto');

function generator(seed) {
    let state = seed >>> 0;
    return (bound) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 4294967296) * bound);
    };
}

function churn(seed, rounds) {
    const draw = generator(seed);
    const hash = crypto.createHash('sha256');
    const kept = new Array(2000).fill(null);
    for (let round = 0; round < rounds; ++round) {
        for (let i = 0; i < 20000; ++i) { // off-heap blocks from 1 byte to 64 KiB, kept for a while
            const size = draw(10) < 9 ? 1 + draw(2000) : 1 + draw(65536);
            const block = Buffer.allocUnsafeSlow(size).fill(i & 255);
            const slot = draw(kept.length);
            if (kept[slot]) hash.update(kept[slot].subarray(0, 16));
            kept[slot] = block;
        }
        const objects = [];
        for (let i = 0; i < 3000; ++i) {
            objects.push({ id: i, name: `name ${draw(1000)}`, tags: [draw(9), draw(99), `t${draw(999)}`], nested: { a: [i] } });
        }
        const text = JSON.stringify(objects);
        const packed = zlib.deflateSync(text, { level: 1 + (round % 4) });
        if (zlib.inflateSync(packed).toString() !== text) throw new Error('inflate gave something else');
        hash.update(JSON.stringify(JSON.parse(text).map((o) => o.nested)));
        hash.update(text);
        const urls = [];
        for (let i = 0; i < 2000; ++i) {
            urls.push(new URL(`http://host${draw(50)}.example/path/${draw(999)}?q=${draw(99)}&r=${i}#f`).href);
        }
        hash.update(urls.join('\n').normalize('NFD').split('').reverse().join(''));
    }
    return hash.digest('hex');
}

const rounds = Number((isMainThread ? process.argv[2] : workerData.rounds) || 1);
if (isMainThread) {
    const results = {};
    const workers = 4;
    let running = workers;
    for (let seed = 1; seed <= workers; ++seed) {
        const worker = new Worker(__filename, { workerData: { seed, rounds } });
        worker.on('message', (digest) => { results[seed] = digest; });
        worker.on('error', (error) => { throw error; });
        worker.on('exit', (code) => {
            if (code !== 0) process.exitCode = code;
            if (--running === 0) for (const s of Object.keys(results).sort()) console.log(`worker ${s}: ${results[s]}`);
        });
    }
    console.log(`main: ${churn(99, rounds)}`);
} else {
    parentPort.postMessage(churn(workerData.seed, rounds));
}
