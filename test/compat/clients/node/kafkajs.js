// kafkajs against the broker at argv[2].
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
// kafkajs's own codec packages for lz4 and zstd need a compiler; these come built.
const zstd = require('@mongodb-js/zstd')
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: (encoder) => zstd.compress(encoder.buffer, 3),
  decompress: (buffer) => zstd.decompress(buffer),
})
const lz4 = require('lz4-napi')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
})

const prefix = 'kafkajs-'
const kafka = new Kafka({ clientId: 'compat', brokers: [process.argv[2]], logLevel: logLevel.NOTHING })
const admin = kafka.admin()
const then = Date.now() - 3600000
let failed = 0

async function check(name, step) {
  const begin = Date.now()
  let mark = 'ok  '
  try {
    await step()
  } catch (error) {
    failed++
    mark = 'FAIL'
    console.log(error.stack)
  }
  console.log(`${mark} ${name} (${((Date.now() - begin) / 1000).toFixed(1)} s)`)
}

function equal(got, want, what) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: ${JSON.stringify(got)} instead of ${JSON.stringify(want)}`)
}

async function until(what, ok, seconds = 30) {
  for (const deadline = Date.now() + seconds * 1000; !(await ok()); await new Promise((r) => setTimeout(r, 50))) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`)
  }
}

async function main() {
  const codecs = ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']
  await admin.connect()
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await producer.connect()

  await check('topics are created and described', async () => {
    const topics = codecs.map((c) => ({ topic: prefix + c, numPartitions: 1, replicationFactor: 1 }))
    topics.push({ topic: prefix + 'group', numPartitions: 4 }, { topic: prefix + 'gone', numPartitions: 2 })
    await admin.createTopics({ topics, waitForLeaders: true })
    const found = await admin.fetchTopicMetadata({ topics: [prefix + 'group'] })
    equal(found.topics[0].partitions.length, 4, 'partitions')
  })

  await check('every codec, with keys, nulls, headers and timestamps', async () => {
    const got = {}
    const reader = kafka.consumer({ groupId: prefix + 'reader' })
    await reader.connect()
    await reader.subscribe({ topics: codecs.map((c) => prefix + c), fromBeginning: true })
    for (const codec of codecs) {
      got[prefix + codec] = []
      const messages = []
      for (let i = 0; i < 100; i++) {
        messages.push({ key: `k${i}`, value: i % 10 === 0 ? null : `value ${i}`, headers: { h: `${i}` }, timestamp: `${then + i}`, partition: 0 })
      }
      const [told] = await producer.send({ topic: prefix + codec, messages, compression: CompressionTypes[codec] })
      equal([told.errorCode, told.baseOffset], [0, '0'], codec)
    }
    await reader.run({ eachMessage: async ({ topic, message }) => { got[topic].push(message) } })
    await until('all codecs are read', () => Object.values(got).every((list) => list.length >= 100))
    await reader.disconnect()
    for (const [topic, list] of Object.entries(got)) {
      list.forEach((m, i) => {
        equal([m.key.toString(), m.value && m.value.toString(), m.headers.h.toString(), m.timestamp, m.offset],
          [`k${i}`, i % 10 === 0 ? null : `value ${i}`, `${i}`, `${then + i}`, `${i}`], topic)
      })
    }
  })

  await check('large messages, acknowledgements 0, 1 and all', async () => {
    for (const acks of [0, 1, -1]) {
      await producer.send({ topic: prefix + 'gone', acks, messages: [{ value: 'x'.repeat(1000000), partition: 0 }] })
    }
    await until('three', async () => (await admin.fetchTopicOffsets(prefix + 'gone'))[0].high === '3')
  })

  await check('look-up by time', async () => {
    const [found] = await admin.fetchTopicOffsetsByTimestamp(prefix + 'GZIP', then + 42)
    equal(found.offset, '42', 'offset')
  })

  await check('a group of two members, and commits', async () => {
    const topic = prefix + 'group'
    const seen = new Set()
    const owned = {}
    const members = []
    for (const name of ['a', 'b']) {
      const member = kafka.consumer({ groupId: prefix + 'g', sessionTimeout: 10000, heartbeatInterval: 500 })
      member.on(member.events.GROUP_JOIN, (event) => { owned[name] = (event.payload.memberAssignment[topic] || []).length })
      await member.connect()
      await member.subscribe({ topic, fromBeginning: true })
      await member.run({ autoCommit: true, autoCommitThreshold: 1, eachMessage: async ({ message }) => { seen.add(message.value.toString()) } })
      members.push(member)
    }
    await until('both own two', () => owned.a === 2 && owned.b === 2)
    for (let p = 0; p < 4; p++) {
      await producer.send({ topic, messages: Array.from({ length: 50 }, (_, i) => ({ value: `${p}-${i}`, partition: p })) })
    }
    await until('all is read', () => seen.size === 200)
    for (const member of members) await member.disconnect()
    const [offsets] = await admin.fetchOffsets({ groupId: prefix + 'g', topics: [topic] })
    equal(offsets.partitions.map((p) => p.offset), ['50', '50', '50', '50'], 'commits')
    const { groups } = await admin.listGroups()
    equal(groups.some((g) => g.groupId === prefix + 'g'), true, 'listed')
    await admin.deleteGroups([prefix + 'g'])
  })

  await check('topics are altered and deleted', async () => {
    const topic = prefix + 'gone'
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await until('5 partitions', async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 5)
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '7777' }] }] })
    await until('retention', async () => {
      const { resources } = await admin.describeConfigs({ resources: [{ ...resource, configNames: ['retention.ms'] }], includeSynonyms: false })
      return resources[0].configEntries[0].configValue === '7777'
    })
    await admin.deleteTopicRecords({ topic: prefix + 'GZIP', partitions: [{ partition: 0, offset: '50' }] })
    await admin.deleteTopics({ topics: [topic] })
    await until('deletion', async () => !(await admin.listTopics()).includes(topic))
  })

  await producer.disconnect()
  await admin.disconnect()
  process.exit(failed ? 1 : 0)
}

main().catch((error) => { console.log(error.stack); process.exit(1) })
