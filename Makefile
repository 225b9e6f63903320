# Thin over cargo. `make` builds, `make install` puts it into a system, `make test-all` proves it.

PREFIX ?= /usr/local
# mount(8) looks for helpers in /sbin, /sbin/fs.d and /sbin/fs only, whatever the prefix.
HELPERDIR ?= $(shell [ /sbin -ef /usr/sbin ] && echo /usr)/sbin
BINDIR ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/libexec
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/fuse4fs
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
MODPROBEDIR ?= $(PREFIX)/lib/modprobe.d
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
DESTDIR ?=

CARGO ?= cargo
INSTALL ?= install
# Root, who installs, may have no compiler in its PATH: what was built tells then.
HOST := $(or $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p'),$(word 2,$(subst /, ,$(wildcard target/*/release/fuse4fs-server))))
# The server runs in an empty root, so nothing of it may be loaded at run time.
STATIC := --target $(HOST) --config "target.$(HOST).rustflags=['-C','target-feature=+crt-static']"
SERVER := target/$(HOST)/release/fuse4fs-server
MAN8 := docs/mount.fuse4fs.8 docs/fuse4fs-server.8 docs/fsck.fuse4fs.8 docs/fuse4fs.service.8
# As mount(8) asks for them, by the types in the mount table: to remount, above all.
LINKS := mount.fuseblk.fuse4fs mount.fuse.fuse4fs
DOCS := README.md docs/admin.md ARCHITECTURE.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT systemd/README.md

all:
	FUSE4FS_LIBEXECDIR=$(LIBEXECDIR) $(CARGO) build --release --locked -p fuse4fs-helper
	$(CARGO) build --release --locked -p fuse4fs-server $(STATIC)

# `make && sudo make install` needs no compiler as root; give both the same PREFIX.
install:
	if command -v $(CARGO) >/dev/null; then $(MAKE) all; else test -x $(SERVER); fi
	$(INSTALL) -D -m 755 target/release/mount-fuse4fs $(DESTDIR)$(HELPERDIR)/mount.fuse4fs
	for link in $(LINKS); do ln -sf mount.fuse4fs $(DESTDIR)$(HELPERDIR)/$$link || exit 1; done
	$(INSTALL) -D -m 755 helper/fsck.fuse4fs $(DESTDIR)$(HELPERDIR)/fsck.fuse4fs
	$(INSTALL) -D -m 755 target/release/fuse4fs $(DESTDIR)$(BINDIR)/fuse4fs
	$(INSTALL) -D -m 755 $(SERVER) $(DESTDIR)$(LIBEXECDIR)/fuse4fs-server
	$(INSTALL) -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(DOCDIR)
	$(INSTALL) -m 644 systemd/fuse4fs.socket systemd/system-fuse4fs.slice $(DESTDIR)$(UNITDIR)/
	sed 's#@LIBEXECDIR@#$(LIBEXECDIR)#g' systemd/fuse4fs@.service.in > $(DESTDIR)$(UNITDIR)/fuse4fs@.service
	chmod 644 $(DESTDIR)$(UNITDIR)/fuse4fs@.service
	$(INSTALL) -D -m 644 systemd/fuse4fs.sysusers $(DESTDIR)$(SYSUSERSDIR)/fuse4fs.conf
	$(INSTALL) -D -m 644 systemd/fuse4fs.tmpfiles $(DESTDIR)$(TMPFILESDIR)/fuse4fs.conf
	$(INSTALL) -D -m 644 systemd/fuse4fs.modprobe $(DESTDIR)$(MODPROBEDIR)/fuse4fs.conf
	$(INSTALL) -D -m 644 docs/fuse4fs.1 $(DESTDIR)$(MANDIR)/man1/fuse4fs.1
	$(INSTALL) -d $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(MANDIR)/man8
	$(INSTALL) -m 644 docs/fuse4fs-errors.7 $(DESTDIR)$(MANDIR)/man7/
	$(INSTALL) -m 644 $(MAN8) $(DESTDIR)$(MANDIR)/man8/
	for link in $(LINKS); do ln -sf mount.fuse4fs.8 $(DESTDIR)$(MANDIR)/man8/$$link.8 || exit 1; done
	$(INSTALL) -D -m 644 completion/fuse4fs.bash $(DESTDIR)$(BASHDIR)/fuse4fs
	ln -sf fuse4fs $(DESTDIR)$(BASHDIR)/mount.fuse4fs
	$(INSTALL) -D -m 644 completion/_fuse4fs $(DESTDIR)$(ZSHDIR)/_fuse4fs
	$(INSTALL) -D -m 644 completion/fuse4fs.fish $(DESTDIR)$(FISHDIR)/fuse4fs.fish
	ln -sf fuse4fs.fish $(DESTDIR)$(FISHDIR)/mount.fuse4fs.fish
	for f in $(DOCS); do $(INSTALL) -m 644 $$f $(DESTDIR)$(DOCDIR)/$$(echo $$f | tr / -) || exit 1; done
	if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then $(MAKE) activate; fi

# What a package does after it is unpacked: the user, the kernel's parameter, the socket.
activate:
	systemd-sysusers $(SYSUSERSDIR)/fuse4fs.conf
	systemd-tmpfiles --create fuse4fs.conf
	systemctl daemon-reload
	systemctl enable --now fuse4fs.socket

# Mounts stay until they are unmounted; their servers need no file any more.
uninstall:
	if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl disable --now fuse4fs.socket; fi
	rm -f $(addprefix $(DESTDIR)$(HELPERDIR)/,mount.fuse4fs $(LINKS) fsck.fuse4fs) $(DESTDIR)$(BINDIR)/fuse4fs
	rm -f $(DESTDIR)$(LIBEXECDIR)/fuse4fs-server
	rm -f $(DESTDIR)$(UNITDIR)/fuse4fs.socket $(DESTDIR)$(UNITDIR)/fuse4fs@.service
	rm -f $(DESTDIR)$(UNITDIR)/system-fuse4fs.slice $(DESTDIR)$(SYSUSERSDIR)/fuse4fs.conf
	rm -f $(DESTDIR)$(TMPFILESDIR)/fuse4fs.conf $(DESTDIR)$(MODPROBEDIR)/fuse4fs.conf
	rm -f $(DESTDIR)$(MANDIR)/man1/fuse4fs.1 $(DESTDIR)$(MANDIR)/man7/fuse4fs-errors.7
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man8/,$(notdir $(MAN8)) $(addsuffix .8,$(LINKS)))
	rm -f $(addprefix $(DESTDIR)$(BASHDIR)/,fuse4fs mount.fuse4fs) $(DESTDIR)$(ZSHDIR)/_fuse4fs
	rm -f $(addprefix $(DESTDIR)$(FISHDIR)/,fuse4fs.fish mount.fuse4fs.fish)
	rm -rf $(DESTDIR)$(DOCDIR)

# What needs no root and no other tool than cargo.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p fuse4fs-tests --test soak --test kill --locked -- -D warnings
	$(CARGO) xtask layers
	$(CARGO) xtask man --check
	$(CARGO) xtask completion --check
	$(CARGO) xtask units

test:
	$(CARGO) test --workspace --locked

# Everything, with the tools it takes: installs Debian packages, wants root.
test-all:
	scripts/test-all

# Builds, installs and mounts IMAGE= (or a sample made on the spot), and shows what is in it.
demo:
	scripts/demo $(IMAGE)

clean:
	$(CARGO) clean

.PHONY: all install activate uninstall check test test-all demo clean
