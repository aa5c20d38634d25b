"""A real Kubernetes of one node out of plain processes: etcd, API server, controllers, scheduler, kube-proxy, containerd and kubelet,
all within the namespaces (network, processes, mounts) that scripts/test-k8s made, so that nothing of it outlives them.

    with cluster.Cluster(stage, programs, folder, cgroup) as c:
        c.import_image("image.tar")
        c.kubectl("apply", "-f", "-", stdin=manifest)
        c.get("pods", namespace="troupe")

Addresses are of the ranges for documentation. There is no DNS, and a NetworkPolicy is stored, but not enforced.

What other projects extend the API server with (interfaces of metrics, webhooks) are processes of the node as well: `serve` leads a Service to
one, and `certificate` gives it one of the authority that the API server knows.
"""

import base64
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Dict, List, Optional

import troupe_test as t

NODE = "192.0.2.1"           # of the node, where Kafka, Redis and Prometheus of the tests listen, too
PODS = "203.0.113.0/24"
SERVICES = "198.51.100.0/24"
TOKEN = "a-token-of-the-tests"
API = f"https://{NODE}:6443"

PAUSE = r"""
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int s) { (void)s; exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""


def command(*words, stdin: Optional[str] = None, check: bool = True, deadline: float = 120) -> subprocess.CompletedProcess:
    done = subprocess.run([str(word) for word in words], input=stdin, text=True, capture_output=True, timeout=deadline)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done


def make_network():
    """The node's interface, in the network namespace that this process is in."""
    for words in ("link set lo up", "link add node0 type veth peer name node0-peer", f"addr add {NODE}/24 dev node0",
                  "link set node0 up", "link set node0-peer up", "route add default dev node0"):
        command("ip", *words.split())
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


class Cluster:
    def __init__(self, stage: t.Stage, programs: pathlib.Path, folder: pathlib.Path, cgroup: str):
        self.stage, self.programs, self.folder, self.cgroup = stage, programs, folder, cgroup
        self.kubeconfig = folder / "kubeconfig"
        self.socket = pathlib.Path("/run/containerd.sock")  # the path of a socket may have a hundred characters
        self.started: Dict[str, t.Process] = {}
        folder.mkdir(parents=True, exist_ok=True)

    # --- life

    def __enter__(self):
        begun = time.monotonic()
        try:
            self._containerd()
            self._control_plane()
            self._kubelet()
            self._start("kube-proxy", self.programs / "kube-proxy", "--config", self._kube_proxy_file())
            t.wait_until(lambda: self.node_ready(), "the node is ready", 90, 0.2)
        except BaseException:
            self.tell()
            raise
        self.seconds_to_ready = time.monotonic() - begun
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, (KeyboardInterrupt, SystemExit)):
            return  # all of it ends with the namespace
        if kind:
            self.tell()
        # The kubelet ends the pods, so that their cgroups go with them.
        with contextlib.suppress(Exception):
            self.kubectl("delete", "deployments,statefulsets,jobs,pods", "--all", "--all-namespaces", "--grace-period=1",
                         "--timeout=40s", deadline=50)
        for name in ("kube-proxy", "kubelet", "scheduler", "controllers", "apiserver", "etcd", "containerd"):
            with contextlib.suppress(Exception):
                if name in self.started:
                    self.started[name].stop(10)

    def tell(self):
        """What a person needs to see why a test failed."""
        for words in (("get", "pods", "--all-namespaces", "-o", "wide"), ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp")):
            with contextlib.suppress(Exception):
                print("   ", "\n    ".join(self.kubectl(*words).splitlines()[-25:]), file=sys.stderr)

    def _start(self, name: str, *words, environment=None):
        self.started[name] = self.stage.start([str(word) for word in words], name, environment, cwd=self.folder)
        return self.started[name]

    def _containerd(self):
        (self.folder / "cni").mkdir(exist_ok=True)
        (self.folder / "cni/10-ptp.conflist").write_text(json.dumps({
            "cniVersion": "0.4.0", "name": "ptp", "plugins": [
                {"type": "ptp", "ipMasq": False, "ipam": {"type": "host-local", "dataDir": str(self.folder / "cni-data"),
                                                          "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}))
        (self.folder / "containerd.toml").write_text(f"""version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/containerd-state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.folder}/cni"
""")
        self._start("containerd", "containerd", "-c", self.folder / "containerd.toml")
        t.wait_until(lambda: self.ctr("version", check=False).returncode == 0, "containerd answers", 30)
        self._pause_image()

    def _pause_image(self):
        """What holds a pod's namespaces. A registry's own is not at hand, and is not more than this."""
        source = self.folder / "pause.c"
        source.write_text(PAUSE)
        root = self.folder / "pause-root"
        root.mkdir(exist_ok=True)
        command("gcc", "-static", "-O2", "-o", root / "pause", source)
        archive = self.folder / "pause.tar"
        command("tar", "-C", root, "-cf", self.folder / "layer.tar", "pause")
        digest = command("sha256sum", self.folder / "layer.tar").stdout.split()[0]
        config = json.dumps({"architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"), "os": "linux",
                             "config": {"Entrypoint": ["/pause"]}, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}})
        (self.folder / "config.json").write_text(config)
        (self.folder / "manifest.json").write_text(json.dumps([{"Config": "config.json", "RepoTags": ["localhost/pause:1"], "Layers": ["layer.tar"]}]))
        command("tar", "-C", self.folder, "-cf", archive, "manifest.json", "config.json", "layer.tar")
        self.import_image(archive)

    def certificate(self, name: str, *hosts: str) -> pathlib.Path:
        """Of the cluster's authority, for both ends of a connection; -> a folder with ca.crt, tls.crt and tls.key."""
        authority, folder = self.folder / "authority", self.folder / f"certificate-{name}"
        if not authority.exists():
            authority.mkdir()
            command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority", "-keyout", authority / "ca.key",
                    "-out", authority / "ca.crt")
        folder.mkdir()
        (folder / "ca.crt").write_text((authority / "ca.crt").read_text())
        names = ",".join(f"{'IP' if host[0].isdigit() else 'DNS'}:{host}" for host in [*hosts, name])
        (folder / "extensions").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        command("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", folder / "tls.key", "-out", folder / "request")
        command("openssl", "x509", "-req", "-days", "2", "-in", folder / "request", "-CA", authority / "ca.crt", "-CAkey", authority / "ca.key",
                "-set_serial", str(len(list(self.folder.glob("certificate-*")))), "-extfile", folder / "extensions", "-out", folder / "tls.crt")
        return folder

    def _control_plane(self):
        data = self.folder
        own = self.certificate("aggregator")
        peer = f"http://{NODE}:2380"
        self._start("etcd", "etcd", "--data-dir", data / "etcd", "--listen-client-urls", f"http://{NODE}:2379", "--advertise-client-urls",
                    f"http://{NODE}:2379", "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster",
                    f"default={peer}", "--unsafe-no-fsync")
        command("openssl", "genrsa", "-out", data / "service-accounts.key", "2048")
        (data / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "clusters": [{"name": "test", "cluster": {"server": API, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}]}))
        self._start("apiserver", self.programs / "kube-apiserver", f"--etcd-servers=http://{NODE}:2379", f"--bind-address={NODE}",
                    f"--advertise-address={NODE}", "--secure-port=6443", f"--cert-dir={data}/certificates",
                    "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={data}/service-accounts.key",
                    f"--service-account-signing-key-file={data}/service-accounts.key", f"--token-auth-file={data}/tokens.csv",
                    "--authorization-mode=Node,RBAC", f"--service-cluster-ip-range={SERVICES}", "--kubelet-preferred-address-types=InternalIP",
                    "--endpoint-reconciler-type=none",
                    # As whom it asks the extensions of its interface, and how it tells them who asked.
                    f"--proxy-client-cert-file={own}/tls.crt", f"--proxy-client-key-file={own}/tls.key", f"--requestheader-client-ca-file={own}/ca.crt",
                    f"--client-ca-file={own}/ca.crt",
                    "--requestheader-allowed-names=aggregator", "--requestheader-username-headers=X-Remote-User",
                    "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-")
        t.wait_until(lambda: self.kubectl("get", "--raw", "/readyz", check=False).strip() == "ok", "the API server is ready", 120, 0.2)
        own = [f"--kubeconfig={self.kubeconfig}", f"--authentication-kubeconfig={self.kubeconfig}", f"--authorization-kubeconfig={self.kubeconfig}",
               f"--bind-address={NODE}", "--leader-elect=false"]
        self._start("controllers", self.programs / "kube-controller-manager", *own, "--secure-port=10257", f"--cert-dir={data}/controllers",
                    f"--service-account-private-key-file={data}/service-accounts.key", f"--root-ca-file={data}/certificates/apiserver.crt",
                    "--horizontal-pod-autoscaler-sync-period=3s")
        self._start("scheduler", self.programs / "kube-scheduler", *own, "--secure-port=10259", f"--cert-dir={data}/scheduler")

    def _kubelet(self):
        # The kubelet makes cgroups below its root, but not the root: one of each hierarchy, of which version 2 has a single one.
        mounted = pathlib.Path("/sys/fs/cgroup")
        for hierarchy in [mounted] if (mounted / "cgroup.controllers").exists() else [h for h in mounted.iterdir() if (h / "cgroup.procs").exists()]:
            (hierarchy / self.cgroup.lstrip("/")).mkdir(exist_ok=True)
        (self.folder / "kubelet.json").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}}, "authorization": {"mode": "AlwaysAllow"},
            "address": NODE, "port": 10250, "healthzPort": 0, "cgroupDriver": "cgroupfs", "cgroupRoot": self.cgroup,
            "failCgroupV1": False, "enforceNodeAllocatable": [], "failSwapOn": False, "oomScoreAdj": 0,
            # A machine that gives its containers no CAP_SYS_RESOURCE refuses some sysctls and OOM scores; that is no matter here.
            "featureGates": {"KubeletInUserNamespace": True}, "containerRuntimeEndpoint": f"unix://{self.socket}",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100, "resolvConf": "", "podLogsDir": str(self.folder / "pod-logs"), "syncFrequency": "10s"}))
        self._start("kubelet", self.programs / "kubelet", "--config", self.folder / "kubelet.json", "--kubeconfig", self.kubeconfig,
                    "--root-dir", self.folder / "kubelet", "--cert-dir", self.folder / "kubelet-certificates", "--node-ip", NODE,
                    "--hostname-override", "node-1")

    def _kube_proxy_file(self) -> pathlib.Path:
        file = self.folder / "kube-proxy.json"
        file.write_text(json.dumps({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "clientConnection": {"kubeconfig": str(self.kubeconfig)},
            "mode": "iptables", "clusterCIDR": PODS, "hostnameOverride": "node-1", "bindAddress": NODE, "healthzBindAddress": "", "metricsBindAddress": f"{NODE}:10249",
            "iptables": {"minSyncPeriod": "0s"}, "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}}))
        return file

    # --- use

    def ctr(self, *words, check=True) -> subprocess.CompletedProcess:
        return command("ctr", "-a", self.socket, "-n", "k8s.io", *words, check=check)

    def import_image(self, archive: pathlib.Path):
        self.ctr("images", "import", archive)

    def kubectl(self, *words, stdin: Optional[str] = None, check: bool = True, deadline: float = 120) -> str:
        """Its output; with check=False also of what failed, errors included."""
        done = command(self.programs / "kubectl", "--kubeconfig", self.kubeconfig, *words, stdin=stdin, check=check, deadline=deadline)
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *documents: dict):
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}))

    def serve(self, namespace: str, name: str, port: int, process_port: int):
        """A Service that leads to a process of the node."""
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": {"ports": [{"name": "https", "port": port}]}},
                   {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
                    "ports": [{"name": "https", "port": process_port}], "endpoints": [{"addresses": [NODE], "conditions": {"ready": True}}]})

    @staticmethod
    def bundle(certificates: pathlib.Path) -> str:
        """The authority of a `certificate`, as objects of the API name it."""
        return base64.b64encode((certificates / "ca.crt").read_bytes()).decode()

    def kubeconfig_of(self, namespace: str, account: str) -> pathlib.Path:
        """With a token of that service account, so that a controller has the rights that it has in a cluster, and no others."""
        token = self.kubectl("create", "token", account, "-n", namespace, "--duration=24h").strip()
        file = self.folder / f"kubeconfig-{account}"
        file.write_text(self.kubeconfig.read_text().replace(TOKEN, token))
        return file

    def get(self, *words, namespace: Optional[str] = None) -> dict:
        return json.loads(self.kubectl("get", *words, *(["-n", namespace] if namespace else []), "-o", "json"))

    def node_ready(self) -> bool:
        nodes = json.loads(command(self.programs / "kubectl", "--kubeconfig", self.kubeconfig, "get", "nodes", "-o", "json", check=False).stdout or '{"items":[]}')
        return any(c["type"] == "Ready" and c["status"] == "True" for n in nodes["items"] for c in n["status"].get("conditions", []))

    def pods(self, namespace: str, selector: str, ready: bool = False) -> List[dict]:
        """Those that are not on their way out."""
        items = [p for p in self.get("pods", "-l", selector, namespace=namespace)["items"] if "deletionTimestamp" not in p["metadata"]]
        return [p for p in items if not ready or is_ready(p)]

    def main_process(self, pod: dict) -> int:
        """The process of the pod's container, as this namespace numbers it."""
        wanted = pod["metadata"]["uid"]
        container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        for row in self.ctr("tasks", "ls").stdout.splitlines()[1:]:
            name, pid, state = row.split()
            if name == container and state == "RUNNING":
                return int(pid)
        raise AssertionError(f"{pod['metadata']['name']} ({wanted}) has no running container")


def is_ready(pod: dict) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def cgroup_file(pid: int, controller: str, v1: str, v2: str) -> str:
    """A limit or a reading of the cgroup that a process is in: cgroup v1's file of that controller, or v2's."""
    for row in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = row.split(":", 2)
        if controller in controllers.split(","):
            return (pathlib.Path("/sys/fs/cgroup") / controller / path.lstrip("/") / v1).read_text().strip()
    for row in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, _, path = row.split(":", 2)
        if number == "0":
            return (pathlib.Path("/sys/fs/cgroup") / path.lstrip("/") / v2).read_text().strip()
    raise AssertionError(f"process {pid} is in no cgroup of {controller}")
