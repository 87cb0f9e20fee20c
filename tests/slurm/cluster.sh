#!/usr/bin/env bash
# A real Slurm of one node on this machine, for the tests: Debian or Ubuntu, root, no systemd needed.
#   cluster.sh up FOLDER [none|sacct]   start it, with its state in FOLDER; sacct: with accounting (slurmdbd, MariaDB)
#   cluster.sh down FOLDER              end exactly what `up` started
# Two GPUs are announced as generic resources, whose device files are /dev/null's: jobs are scheduled on them, that is all.
# A job over its memory is killed (accounting by polling, as there are no cgroups), one over its time too.
set -euo pipefail

no_slurm=3 # exit status where this machine cannot have one; 1 is a failure

say() { echo "cluster.sh: $*" >&2; }
fail() { say "$*"; exit 1; }
until_true() { local tries=$1; shift; for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done; return 1; }

[ $# -ge 2 ] || fail "usage: cluster.sh up FOLDER [none|sacct] | down FOLDER"
action=$1 folder=$(realpath -m "$2") accounting=${3:-none}
host=$(hostname -s)

end() {
    local pid
    for name in slurmd slurmctld slurmdbd mariadbd munged; do
        [ -s "$folder/$name.pid" ] || continue
        pid=$(<"$folder/$name.pid")
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] || continue
        kill "$pid"
        until_true 100 bash -c "! grep -q '^State:.[^Z]' /proc/$pid/status" || say "$name ($pid) does not end"
    done
    for name in slurm.conf gres.conf slurmdbd.conf; do
        if [ "$(readlink /etc/slurm/$name)" = "$folder/$name" ]; then rm "/etc/slurm/$name"; fi
    done
}

case $action in down) end; exit ;; up) ;; *) fail "'$action' is neither up nor down" ;; esac

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "needs root on Debian or Ubuntu, to install packages and to start Slurm's daemons"
    exit $no_slurm
fi
packages=(slurm-wlm munge)
[ "$accounting" = none ] || packages+=(slurmdbd mariadb-server)
for package in "${packages[@]}"; do dpkg -s "$package" >/dev/null 2>&1 || missing=1; done
if [ -n "${missing:-}" ]; then
    say "installing ${packages[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
        >&2 || { say "the packages ${packages[*]} cannot be installed here"; exit $no_slurm; }
fi
[ ! -e /etc/slurm/slurm.conf ] || { say "/etc/slurm/slurm.conf exists: this machine has its own"; exit $no_slurm; }

mkdir -p "$folder"/{state,spool} /etc/slurm
chmod 755 "$folder"
trap 'end; fail "could not be started; see the logs in $folder"' ERR
# The names in /etc are needed: Snakemake's executor takes SLURM_CONF out of its jobs' environment.
ln -s "$folder/slurm.conf" "$folder/gres.conf" /etc/slurm/
grep -qw "$host" /etc/hosts || echo "127.0.0.1 $host" >>/etc/hosts

if ! munge -n >/dev/null 2>&1; then
    install -d -o munge -g munge -m 755 /run/munge
    if [ ! -s /etc/munge/munge.key ]; then
        install -o munge -g munge -m 400 /dev/null /etc/munge/munge.key
        head -c 1024 /dev/urandom >/etc/munge/munge.key
    fi
    rm -f /run/munge/munge.socket*
    runuser -u munge -- munged
    until_true 50 munge -n
    cp /run/munge/munged.pid "$folder/munged.pid"
fi

for gpu in 0 1; do [ -c "$folder/gpu$gpu" ] || mknod "$folder/gpu$gpu" c 1 3; done
echo "NodeName=$host Name=gpu Type=fake File=$folder/gpu[0-1]" >"$folder/gres.conf"
if [ "$accounting" = none ]; then storage=none; else
    storage=slurmdbd
    kept="AccountingStorageTRES=gres/gpu"
fi
memory=$(awk '/^MemTotal/ { print int($2 / 1024 - 1024) }' /proc/meminfo)
cat >"$folder/slurm.conf" <<CONF
ClusterName=kimberlite
SlurmctldHost=$host(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
ReturnToService=2
MinJobAge=3600
KillWait=10
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/$storage
${kept:-}
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=1-00:00:00 DefMemPerCPU=500 State=UP
PartitionName=gpu Nodes=$host MaxTime=1-00:00:00 DefMemPerCPU=500 State=UP
CONF

if [ "$accounting" != none ]; then
    install -d -o mysql -g mysql "$folder/mysql" "$folder/socket"
    [ -d "$folder/mysql/mysql" ] || mariadb-install-db --user=mysql --datadir="$folder/mysql" --skip-test-db \
        --auth-root-authentication-method=socket >"$folder/mysql_install.log" 2>&1
    setsid mariadbd --no-defaults --user=mysql --datadir="$folder/mysql" --socket="$folder/socket/sock" \
        --pid-file="$folder/socket/pid" --skip-networking --innodb-lock-wait-timeout=900 >"$folder/mariadb.log" 2>&1 </dev/null &
    echo $! >"$folder/mariadbd.pid"
    until_true 150 mariadb-admin --socket="$folder/socket/sock" ping
    mariadb --socket="$folder/socket/sock" -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db"
    cat >"$folder/slurmdbd.conf" <<CONF
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
LogFile=$folder/slurmdbd.log
PidFile=$folder/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
CONF
    chmod 600 "$folder/slurmdbd.conf"
    ln -sf "$folder/slurmdbd.conf" /etc/slurm/slurmdbd.conf
    MYSQL_UNIX_PORT="$folder/socket/sock" slurmdbd
    until_true 100 sacctmgr -n list cluster
    sacctmgr -i -Q add cluster kimberlite || true
    sacctmgr -i -Q add account lab || true
    sacctmgr -i -Q add user root account=lab || true
fi
slurmctld
until_true 100 bash -c 'scontrol ping | grep -q UP'
slurmd -N "$host"
until_true 100 bash -c 'sinfo -h -o %t | grep -q idle && scontrol show node | grep -q SlurmdStartTime=[0-9]'
say "up: $(sinfo -h -o '%P %c cores %m MB %G' | tr '\n' ';')"
