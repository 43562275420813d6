# What real programs do in a directory ($1), with checks of their own. Ends with "all well".
set -e
cd "$1"
export HOME="$PWD" LC_ALL=C
say() { echo "-- $*"; }

say git
git init -q r && cd r
git config user.email a@b && git config user.name a
i=0; while [ $i -lt 300 ]; do mkdir -p d$((i % 17)); echo "file $i" > d$((i % 17))/f$i; i=$((i + 1)); done
git add . && git commit -qm one
i=0; while [ $i -lt 300 ]; do echo more >> d$((i % 17))/f$i; i=$((i + 7)); done
git commit -qam two && git gc -q && git fsck --full >/dev/null
[ -z "$(git status --porcelain)" ]
cd .. && git clone -q r r2 && [ -z "$(cd r2 && git status --porcelain)" ]
diff -r --exclude=.git r r2

say sqlite3 in WAL mode
[ "$(sqlite3 t.db 'pragma journal_mode=wal')" = wal ]
sqlite3 t.db 'create table t(a integer primary key, b text);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
    insert into t select i, hex(randomblob(50)) from n;'
# A second writer while a reader is open: the shared memory file is mapped by both.
(i=0; while [ $i -lt 50 ]; do sqlite3 -cmd '.timeout 20000' t.db "insert into t(b) values($i)"; i=$((i + 1)); done) &
(i=0; while [ $i -lt 50 ]; do sqlite3 -cmd '.timeout 20000' t.db "update t set b = $i where a = $i + 1"; i=$((i + 1)); done) &
wait
[ "$(sqlite3 t.db 'select count(*) from t')" = 20050 ]
[ "$(sqlite3 t.db 'pragma integrity_check')" = ok ]
sqlite3 t.db 'pragma wal_checkpoint(truncate); vacuum;' >/dev/null
[ "$(sqlite3 t.db 'pragma integrity_check')" = ok ]

say gcc
cat > p.c <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    int fd = open("mapped", O_RDWR | O_CREAT, 0644);
    if (ftruncate(fd, 1 << 20)) return 1;
    char *m = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED) return 2;
    memset(m + 5000, 'x', 500000);
    if (msync(m, 1 << 20, MS_SYNC)) return 3;
    char b[4];
    if (pread(fd, b, 4, 504996) != 4 || memcmp(b, "xxxx", 4)) return 4;
    puts("compiled and run");
    return 0;
}
C
gcc -O2 -o p p.c && [ "$(./p)" = "compiled and run" ]

say tar
mkdir t1 t2
cp -a r/. t1/ && ln t1/p 2>/dev/null || ln t1/d0/f0 t1/hard
ln -s nowhere t1/link && chmod 4711 t1/d1/f1 && touch -d '1999-01-02 03:04:05.123456789' t1/d2/f2
tar -C t1 -cf t.tar . && tar -C t2 -xpf t.tar && tar -C t2 -df t.tar
[ "$(stat -c %y t2/d2/f2 | cut -c1-19)" = "1999-01-02 03:04:05" ]
[ "$(stat -c %h t2/d0/f0)" = 2 ]

say rsync
rsync -aH t1/ t3/ && [ -z "$(rsync -aHnic t1/ t3/)" ]
echo changed > t1/d3/f3 && rm -r t1/d4 && rsync -aH --delete t1/ t3/ && diff -r --no-dereference t1 t3

say cp --sparse=always
truncate -s 50M s && printf end >> s && dd if=/dev/urandom of=s bs=64k count=2 seek=100 conv=notrunc 2>/dev/null
cp --sparse=always s s2 && cmp s s2
[ "$(du -k s2 | cut -f1)" -le 300 ]
echo "all well"
