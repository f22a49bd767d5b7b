// SPDX-License-Identifier: GPL-2.0
/*
 * The counterpart of device state in `make bench`: a thread of the kernel that fills or empties a
 * pipe. Write "FD BYTES" to fill or empty in debugfs/dlr_feed; FD is an end of a pipe of the caller.
 *
 * What the checksum of the state takes: each write to checksum, of at most 1 MiB, is copied into
 * the kernel, and crc32c() computes the checksum of the copy. Only that is timed. checksum_ns is the
 * sum in nanoseconds since 0 was written to it. For one caller at a time.
 */
#include <linux/crc32.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

struct job {
	struct file *file;
	u64 bytes;
	bool fill;
};

static int work(void *data)
{
	struct job *job = data;
	void *buffer = vzalloc(SZ_1M);

	while (buffer && job->bytes) {
		size_t now = min_t(u64, job->bytes, SZ_1M);
		ssize_t done = job->fill ? kernel_write(job->file, buffer, now, NULL) :
					   kernel_read(job->file, buffer, now, NULL);

		/* The other end is closed. */
		if (done <= 0)
			break;
		job->bytes -= done;
	}
	vfree(buffer);
	fput(job->file);
	kfree(job);
	/* The module stays until the last thread has left it. */
	module_put_and_kthread_exit(0);
}

static ssize_t begin(const char __user *user, size_t count, bool fill)
{
	struct task_struct *thread;
	struct job *job;
	char text[64];
	int fd, ret;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = '\0';
	job = kzalloc_obj(*job);
	if (!job)
		return -ENOMEM;
	job->fill = fill;
	ret = -EINVAL;
	if (sscanf(text, "%d %llu", &fd, &job->bytes) != 2)
		goto free;
	ret = -EBADF;
	job->file = fget(fd);
	if (!job->file)
		goto free;
	__module_get(THIS_MODULE);
	thread = kthread_run(work, job, "dlr_feed");
	if (!IS_ERR(thread))
		return count;
	ret = PTR_ERR(thread);
	module_put(THIS_MODULE);
	fput(job->file);
free:
	kfree(job);
	return ret;
}

static ssize_t fill_write(struct file *file, const char __user *user, size_t count, loff_t *at)
{
	return begin(user, count, true);
}

static ssize_t empty_write(struct file *file, const char __user *user, size_t count, loff_t *at)
{
	return begin(user, count, false);
}

/* Shown and cleared by debugfs. */
static u64 checksum_ns;

static ssize_t checksum_write(struct file *file, const char __user *user, size_t count, loff_t *at)
{
	void *piece;
	u64 begin;

	if (!count || count > SZ_1M)
		return -EINVAL;
	piece = vmalloc(count);
	if (!piece)
		return -ENOMEM;
	if (copy_from_user(piece, user, count)) {
		vfree(piece);
		return -EFAULT;
	}
	begin = ktime_get_ns();
	crc32c(~0, piece, count);
	checksum_ns += ktime_get_ns() - begin;
	vfree(piece);
	return count;
}

static const struct file_operations checksum_ops = {
	.owner = THIS_MODULE,
	.write = checksum_write,
};

static const struct file_operations fill_ops = {
	.owner = THIS_MODULE,
	.write = fill_write,
};

static const struct file_operations empty_ops = {
	.owner = THIS_MODULE,
	.write = empty_write,
};

static struct dentry *folder;

static int __init feed_init(void)
{
	folder = debugfs_create_dir("dlr_feed", NULL);
	debugfs_create_file("fill", 0200, folder, NULL, &fill_ops);
	debugfs_create_file("empty", 0200, folder, NULL, &empty_ops);
	debugfs_create_file("checksum", 0200, folder, NULL, &checksum_ops);
	debugfs_create_u64("checksum_ns", 0600, folder, &checksum_ns);
	return 0;
}
module_init(feed_init);

static void __exit feed_exit(void)
{
	debugfs_remove(folder);
}
module_exit(feed_exit);

MODULE_DESCRIPTION("Fills and empties pipes, times checksums");
MODULE_LICENSE("GPL");
