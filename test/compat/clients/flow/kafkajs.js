// kafkajs; see README.md. Nothing but the defaults, and `fromBeginning`.
const { Kafka, logLevel } = require('kafkajs')
const readline = require('readline')

const [mode, bootstrap, topic, groupId] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'flow', brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
const say = (text) => process.stdout.write(text + '\n')

async function produce() {
  const producer = kafka.producer()
  await producer.connect()
  const sends = []
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const value = line.trim()
    sends.push(producer.send({ topic, messages: [{ value }] })
      .then(() => say('ok ' + value), (error) => say(`failed ${value} ${error.message}`)))
  }
  await Promise.all(sends)
  await producer.disconnect()
}

async function consume() {
  const consumer = kafka.consumer({ groupId })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => say('got ' + message.value.toString()) })
  await new Promise((resolve) => process.stdin.on('end', resolve).resume())
  await consumer.disconnect()
}

(mode === 'produce' ? produce() : consume()).then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
