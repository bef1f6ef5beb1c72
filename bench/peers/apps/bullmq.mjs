// BullMQ: the same four jobs, and the same producer as producer.py, in Node.
//   node bullmq.mjs work CONCURRENCY
//   node bullmq.mjs send one|many|paced JOB COUNT SIZE RATE
import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.env.BENCH_NODE + "/");
const { Queue, Worker } = require("bullmq");
const IORedis = require("ioredis").default ?? require("ioredis");

const QUEUE = "bench", BATCH = 500, WARM = 200;
const connection = new IORedis(process.env.BENCH_URL, { maxRetriesPerRequest: null });
const options = { removeOnComplete: true, removeOnFail: true };
const marks = openSync(process.env.BENCH_MARKS || "/dev/null", "a");
const now = () => process.hrtime.bigint();

const jobs = {
  noop: () => writeSync(marks, "."),
  cpu: () => {
    const begun = process.cpuUsage();
    for (;;) {
      const used = process.cpuUsage(begun);
      if (used.user + used.system >= 1000) break;
    }
    writeSync(marks, ".");
  },
  io: async () => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    writeSync(marks, ".");
  },
  mark: ({ sent, tag }) => writeSync(marks, `${sent} ${now()} ${tag}\n`),
};

function work(concurrency) {
  const worker = new Worker(QUEUE, async (job) => jobs[job.name](job.data), { connection, concurrency });
  process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
}

function payload(size) {
  const fields = { version: 1, conversation: "c-4711", sender: "ada", text: "" };
  fields.text = "x".repeat(size - JSON.stringify(fields).length);
  return fields;
}

const queue = () => new Queue(QUEUE, { connection, defaultJobOptions: options });

const ways = {
  one: async (to, job, count, data) => {
    for (let n = 0; n < count; n++) await to.add(job, data);
  },
  many: async (to, job, count, data) => {
    for (let start = 0; start < count; start += BATCH) {
      const part = Array.from({ length: Math.min(BATCH, count - start) }, () => ({ name: job, data }));
      await to.addBulk(part);
    }
  },
};

async function send(way, job, count, size, rate) {
  const to = queue();
  await to.waitUntilReady();
  if (way === "paced") {
    const start = performance.now();
    for (let n = 0; n < count; n++) {
      const wait = start + (n * 1000) / rate - performance.now();
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      await to.add("mark", { sent: String(now()), tag: "-" });
    }
    console.log(JSON.stringify({ rate }));
  } else {
    const data = payload(size);
    const warm = Math.min(WARM, Math.floor(count / 10));
    await ways[way](to, job, warm, data);
    const start = performance.now();
    await ways[way](to, job, count - warm, data);
    console.log(JSON.stringify({ rate: ((count - warm) * 1000) / (performance.now() - start) }));
  }
  process.exit(0);
}

const [command, ...rest] = process.argv.slice(2);
if (command === "work") work(Number(rest[0]));
else await send(rest[0], rest[1], ...rest.slice(2).map(Number));
