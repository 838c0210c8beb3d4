"""Kafka's own command-line tools against the three nodes at argv[1] (comma-separated); argv[2] is the class path."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

bootstrap, class_path = sys.argv[1:3]
here = pathlib.Path(__file__).parent
work = tempfile.mkdtemp(prefix="kafka-tools-")
classes = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "groups": "org.apache.kafka.tools.GroupsCommand",
    "metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "cluster": "org.apache.kafka.tools.ClusterTool",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "producer-perf": "org.apache.kafka.tools.ProducerPerformance",
    "consumer-perf": "org.apache.kafka.tools.ConsumerPerformance",
    "features": "org.apache.kafka.tools.FeatureCommand",
    "e2e-latency": "org.apache.kafka.tools.EndToEndLatency",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
    "client-metrics": "org.apache.kafka.tools.ClientMetricsCommand",
}
looks = {"--describe", "--list", "describe", "--status", "get-offsets", "log-dirs", "broker-api-versions", "features", "transactions"}
changes = {"--execute", "--delete", "--create", "--alter"}
java = subprocess.Popen(["java", "-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path, str(here / "Tools.java")],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
failed = 0


def tool(name, *args, server=True):
    """Runs a tool; returns its exit code and what it wrote."""
    words = [classes[name]] + (["--bootstrap-server", bootstrap] if server else []) + [str(a) for a in args]
    java.stdin.write(("\t".join(words) + "\n").encode())
    java.stdin.flush()
    head = java.stdout.readline().split()
    if not head:
        raise SystemExit(f"FAIL {name}: the JVM is gone")
    text = java.stdout.read(int(head[1])).decode()
    return int(head[0]), text


def check(what, want, name, *args, code=0, server=True, retry=0.0):
    """Runs a tool until what it wrote matches want: a pattern, or several; retry is how long it may take. On a busy machine
    a replica may leave the in-sync set, or a lead move, so what only looks is asked again in any case."""
    global failed
    if looks & {name, *args} and not changes & {*args}:
        retry = max(retry, 10.0)
    deadline = time.time() + retry
    while True:
        begin = time.time()
        got, text = tool(name, *args, server=server)
        patterns = [want] if isinstance(want, str) else want
        missing = [p for p in patterns if not re.search(p, text, re.S | re.M)]
        if got == code and not missing:
            print(f"ok   {what} ({time.time() - begin:.1f} s)", flush=True)
            return text
        if time.time() > deadline:
            break
        time.sleep(0.2)
    failed += 1
    print(f"FAIL {what}: exit code {got}, no {missing} in:\n{text[-3000:]}", flush=True)
    return text


def file(name, content):
    path = os.path.join(work, name)
    with open(path, "w") as f:
        f.write(content if isinstance(content, str) else json.dumps(content))
    return path


def topics_and_configs():
    check("topics --create, three replicas", r"Created topic tools\.", "topics", "--create", "--topic", "tools", "--partitions", 3,
          "--replication-factor", 3, "--config", "min.insync.replicas=2")
    check("topics --create, assigned", r"Created topic assigned\.", "topics", "--create", "--topic", "assigned",
          "--replica-assignment", "1:2,2:3,3:1")
    check("topics --create --if-not-exists", r"^$", "topics", "--create", "--if-not-exists", "--topic", "tools")
    check("topics --create of one that exists", r"exists already", "topics", "--create", "--topic", "tools", code=1)
    check("topics --describe", [r"PartitionCount: 3\s+ReplicationFactor: 3.*min.insync.replicas=2", r"Partition: 2\s+Leader: [123]\s+Replicas: [123,]{5}\s+Isr: [123,]{5}"],
          "topics", "--describe", "--topic", "tools")
    check("topics --describe, assigned", r"Partition: 1\s+Leader: 2\s+Replicas: 2,3", "topics", "--describe", "--topic", "assigned")
    for problem in ["--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"]:
        check("topics --describe " + problem, r"^$", "topics", "--describe", problem, retry=10)
    check("topics --describe --at-min-isr-partitions", r"^$", "topics", "--describe", "--topic", "tools", "--at-min-isr-partitions")
    check("topics --describe --topic-id", r"Topic: tools", "topics", "--describe", "--topic-id",
          re.search(r"TopicId: (\S+)", tool("topics", "--describe", "--topic", "tools")[1]).group(1))
    check("topics --alter", r"^$", "topics", "--alter", "--topic", "assigned", "--partitions", 5)
    check("topics --list", [r"^assigned$", r"^tools$"], "topics", "--list")
    check("topics --list --exclude-internal", r"\A(?!.*__consumer)", "topics", "--list", "--exclude-internal")

    check("configs --alter a topic", r"Completed updating config for topic tools", "configs", "--alter", "--entity-type", "topics", "--entity-name", "tools",
          "--add-config", "retention.ms=777777,cleanup.policy=[compact,delete]")
    check("configs --describe a topic", [r"retention.ms=777777", r"cleanup.policy=compact,delete"], "configs", "--describe", "--entity-type", "topics", "--entity-name", "tools")
    check("configs --describe --all", [r"segment.bytes=1073741824", r"DEFAULT_CONFIG:log.cleaner.min.cleanable.ratio=0.5"],
          "configs", "--describe", "--all", "--entity-type", "topics", "--entity-name", "tools")
    check("configs --delete-config", r"Completed", "configs", "--alter", "--entity-type", "topics", "--entity-name", "tools", "--delete-config", "cleanup.policy,retention.ms")
    check("configs --alter a broker", r"Completed updating config for broker 2", "configs", "--alter", "--entity-type", "brokers", "--entity-name", 2,
          "--add-config", "log.retention.ms=888888")
    check("configs --describe a broker", r"log.retention.ms=888888.*DYNAMIC_BROKER_CONFIG", "configs", "--describe", "--entity-type", "brokers", "--entity-name", 2)
    check("configs --alter all brokers", r"Completed updating default config for brokers", "configs", "--alter", "--entity-type", "brokers", "--entity-default",
          "--add-config", "log.retention.ms=999999")
    check("configs --describe all brokers", r"log.retention.ms=999999", "configs", "--describe", "--entity-type", "brokers", "--entity-default")
    for who in [("--entity-default",), ("--entity-name", 2)]:
        check("configs --delete-config of brokers", r"Completed", "configs", "--alter", "--entity-type", "brokers", *who, "--delete-config", "log.retention.ms")
    check("configs of a group", r"Completed updating config for group g-tools", "configs", "--alter", "--entity-type", "groups", "--entity-name", "g-tools",
          "--add-config", "consumer.session.timeout.ms=50000")
    check("configs --describe a group", r"consumer.session.timeout.ms=50000", "configs", "--describe", "--entity-type", "groups", "--entity-name", "g-tools")
    check("configs that do not exist", r"InvalidConfig|nope", "configs", "--alter", "--entity-type", "topics", "--entity-name", "tools", "--add-config", "nope=1", code=1)
    check("client-metrics", r"^$|Completed|no client", "client-metrics", "--list")


def records():
    check("producer-perf", r"30000 records sent", "producer-perf", "--topic", "tools", "--num-records", 30000, "--record-size", 500, "--throughput", -1,
          "--producer-props", "bootstrap.servers=" + bootstrap, "compression.type=zstd", server=False)
    check("consumer-perf", r"tools|30000", "consumer-perf", "--topic", "tools", "--messages", 30000, "--group", "g-perf")
    check("consumer-perf, consumer protocol", r"30000", "consumer-perf", "--topic", "tools", "--messages", 30000, "--group", "g-perf-848",
          "--consumer.config", file("consumer.properties", "group.protocol=consumer\n"))
    check("e2e-latency", r"Avg latency.*Percentiles", "e2e-latency", "--topic", "assigned", "--num-records", 200, "--producer-acks", "all", "--record-size", 100)
    latest = check("get-offsets", r"^tools:0:\d+.*^tools:2:\d+", "get-offsets", "--topic", "tools")
    if (total := sum(int(line.split(":")[2]) for line in latest.splitlines() if line.startswith("tools:"))) != 30000:
        raise SystemExit(f"FAIL get-offsets: {total} records")
    check("get-offsets earliest", r"^tools:0:0$", "get-offsets", "--topic", "tools", "--time", "earliest")
    check("get-offsets max-timestamp", r"^tools:0:\d+$", "get-offsets", "--topic", "tools", "--time", "max-timestamp")
    check("get-offsets by time", r"^tools:0:0$", "get-offsets", "--topic", "tools", "--time", 1)
    check("get-offsets of partitions", r"^tools:1:\d+$", "get-offsets", "--topic-partitions", "tools:1")
    check("delete-records", r"partition: tools-0\s+low_watermark: 10", "delete-records", "--offset-json-file",
          file("delete.json", {"version": 1, "partitions": [{"topic": "tools", "partition": 0, "offset": 10}]}))
    check("get-offsets after it", r"^tools:0:10$", "get-offsets", "--topic", "tools", "--time", "earliest")


def groups():
    for group, protocol in [("g-classic", "classic"), ("g-consumer", "consumer")]:
        check("console-consumer, " + protocol, r"Processed a total of 1000 messages", "console-consumer", "--topic", "tools", "--group", group,
              "--from-beginning", "--max-messages", 1000, "--timeout-ms", 20000, "--command-property", "group.protocol=" + protocol)
    one, both = ("--group", "g-classic"), ("--group", "g-classic", "--group", "g-consumer")
    check("consumer-groups --list", [r"^g-classic", r"^g-consumer"], "consumer-groups", "--list")
    check("consumer-groups --list --state", r"g-classic\s+Empty", "consumer-groups", "--list", "--state")
    check("consumer-groups --list --type", r"g-consumer\s+Consumer", "consumer-groups", "--list", "--type", "consumer")
    check("groups --list", r"g-consumer\s+Consumer\s+consumer", "groups", "--list")
    check("consumer-groups --describe", [r"g-classic\s+tools\s+0\s+\d+\s+\d+\s+\d+", r"g-consumer\s+tools"], "consumer-groups", "--describe", *both)
    check("consumer-groups --describe --all-groups", r"g-consumer\s+tools", "consumer-groups", "--describe", "--all-groups")
    check("consumer-groups --describe --members --verbose", r"has no active members", "consumer-groups", "--describe", "--members", "--verbose", *one)
    check("consumer-groups --describe --state", r"g-classic\s+\S+.*Empty\s+0", "consumer-groups", "--describe", "--state", *one)
    check("consumer-groups --describe of none", r"does not exist|not found", "consumer-groups", "--describe", "--group", "nope")
    reset = ("consumer-groups", "--reset-offsets", *one, "--topic", "tools")
    check("reset --to-earliest --dry-run", r"g-classic\s+tools\s+0\s+10", *reset, "--to-earliest", "--dry-run")
    check("reset --to-earliest", r"g-classic\s+tools\s+0\s+10", *reset, "--to-earliest", "--execute")
    check("reset --shift-by", r"g-classic\s+tools\s+0\s+15", *reset, "--shift-by", 5, "--execute")
    check("reset --to-offset", r"g-classic\s+tools\s+1\s+7", *reset, "--to-offset", 7, "--execute")
    check("reset --to-datetime", r"g-classic\s+tools\s+0\s+10", *reset, "--to-datetime", "2020-01-01T00:00:00.000", "--execute")
    check("reset --by-duration", r"g-classic\s+tools\s+0\s+10", *reset, "--by-duration", "P1D", "--execute")
    check("reset --to-current", r"g-classic\s+tools\s+0\s+10", *reset, "--to-current", "--execute")
    exported = check("reset --export", r"tools.*,0,10", *reset, "--to-current", "--export", "--dry-run")
    check("reset --from-file", r"g-classic\s+tools\s+0\s+12", "consumer-groups", "--reset-offsets", *one, "--from-file",
          file("offsets.csv", "".join(line + "\n" for line in exported.splitlines() if "tools" in line).replace(",0,10", ",0,12")), "--execute")
    check("reset --to-latest", r"g-classic\s+tools\s+2\s+\d{3,}", *reset, "--to-latest", "--execute")
    check("reset of a consumer group", r"g-consumer\s+tools\s+1\s+0", "consumer-groups", "--reset-offsets", "--group", "g-consumer", "--all-topics", "--to-earliest", "--execute")
    check("consumer-groups --delete-offsets", r"successful|tools\s+0\s+Successful", "consumer-groups", "--delete-offsets", *one, "--topic", "tools:0")
    check("consumer-groups --delete", r"Deletion of requested consumer groups.*successful", "consumer-groups", "--delete", *both)
    check("consumer-groups --list after it", r"\A(?!.*g-classic)", "consumer-groups", "--list")


def reassignments():
    move = ["--broker-list", "1,2", "--topics-to-move-json-file", file("topics.json", {"version": 1, "topics": [{"topic": "assigned"}]})]
    proposed = check("reassign-partitions --generate", r"Proposed partition reassignment configuration", "reassign-partitions", "--generate", *move)
    plan = {"version": 1, "partitions": [{"topic": "tools", "partition": p, "replicas": [p % 3 + 1, (p + 1) % 3 + 1]} for p in range(3)]}
    path = file("plan.json", plan)
    check("reassign-partitions --execute --throttle", r"Successfully started partition reassignments? for tools-0", "reassign-partitions", "--execute",
          "--reassignment-json-file", path, "--throttle", 50000000)
    check("reassign-partitions --verify", [r"Reassignment of partition tools-0 is completed", r"Clearing broker-level throttles", r"Clearing topic-level throttles"],
          "reassign-partitions", "--verify", "--reassignment-json-file", path, retry=20)
    check("reassign-partitions --list", r"No partition reassignments found", "reassign-partitions", "--list", retry=10)
    check("topics --describe after it", r"Partition: 0\s+Leader: [12]\s+Replicas: 1,2\s", "topics", "--describe", "--topic", "tools")
    check("no throttle left", r"\A(?!.*throttled)", "configs", "--describe", "--entity-type", "topics", "--entity-name", "tools")
    last = re.search(r"Proposed partition reassignment configuration\s*(\{.*\})", proposed).group(1)
    check("reassign-partitions as proposed", r"Successfully started", "reassign-partitions", "--execute", "--reassignment-json-file", file("proposed.json", last))
    check("reassign-partitions as proposed --verify", r"assigned-4 is completed", "reassign-partitions", "--verify", "--reassignment-json-file",
          os.path.join(work, "proposed.json"), retry=20)
    check("reassign-partitions --cancel", r"None of the specified partition reassignments are active|Successfully cancelled", "reassign-partitions", "--cancel",
          "--reassignment-json-file", path)
    check("leader-election", r"Successfully completed leader election|Valid replica already elected|^$", "leader-election", "--election-type", "preferred",
          "--all-topic-partitions")
    check("leader-election of one", r"Valid replica already elected for partitions.*tools-0|Successfully completed", "leader-election", "--election-type", "preferred",
          "--topic", "tools", "--partition", 0)
    check("leader-election, unclean", r"Valid replica already elected", "leader-election", "--election-type", "unclean", "--topic", "tools", "--partition", 1)


def cluster():
    check("metadata-quorum --status", [r"LeaderId:\s+[123]", r"CurrentVoters:.*1.*2.*3"], "metadata-quorum", "describe", "--status")
    check("metadata-quorum --replication", r"^1\s.*^2\s.*^3\s|Leader.*Follower.*Follower", "metadata-quorum", "describe", "--replication")
    check("cluster cluster-id", r"Cluster ID: \S+", "cluster", "cluster-id", "--bootstrap-server", bootstrap, server=False)
    check("cluster list-endpoints", r"^1\s.*^2\s.*^3\s", "cluster", "list-endpoints", "--bootstrap-server", bootstrap, server=False)
    check("cluster unregister of none", r"not found|not registered|BrokerIdNotRegistered", "cluster", "unregister", "--bootstrap-server", bootstrap, "--id", 99, server=False, code=1)
    check("log-dirs --describe", r'"broker":1.*"partition":"tools-', "log-dirs", "--describe", "--topic-list", "tools", "--broker-list", "1,2,3")
    check("broker-api-versions", [r"\(id: 1.*Produce\(0\): 0 to 13", r"\(id: 3"], "broker-api-versions")
    check("features describe", r"metadata.version", "features", "describe")
    check("transactions find-hanging", r"Topic\s+Partition", "transactions", "find-hanging", "--broker-id", 1)
    check("transactions describe-producers", r"ProducerId", "transactions", "describe-producers", "--topic", "tools", "--partition", 0)


begin = time.time()
for part in [topics_and_configs, records, groups, reassignments, cluster]:
    part()
for name in ["tools", "assigned"]:
    check("topics --delete", r"^$", "topics", "--delete", "--topic", name)
check("topics --list in the end", r"\A(?!.*^tools$)", "topics", "--list")
java.stdin.close()
print(f"{time.time() - begin:.1f} s in all")
sys.exit(1 if failed else 0)
