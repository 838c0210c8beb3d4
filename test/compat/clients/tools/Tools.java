import java.io.ByteArrayOutputStream;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command-line tools in one JVM, since each of their own costs a second or two. A line of standard input
 * is a class and its arguments, separated by tabs; the answer is the exit code and the number of bytes that the tool
 * wrote, on a line, and those bytes.
 */
public class Tools {
    /** Instead of the end of the JVM. Some tools catch it and end once more: the first code is the one meant. */
    static final class Ended extends RuntimeException {
        Ended() {
            super("", null, false, false);
        }
    }

    static volatile Integer ended;

    static void end(int code) {
        if (ended == null) {
            ended = code;
        }
        throw new Ended();
    }

    /** What tools write goes here; Scala keeps the first System.out that it sees. */
    static final ByteArrayOutputStream written = new ByteArrayOutputStream();

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        PrintStream tool = new PrintStream(new OutputStream() {
            @Override
            public void write(int b) {
                written.write(b);
            }

            @Override
            public void write(byte[] b, int from, int count) {
                written.write(b, from, count);
            }
        }, true, StandardCharsets.UTF_8);
        System.setOut(tool);
        System.setErr(tool);
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split("\t", -1);
            written.reset();
            int code = run(words[0], Arrays.copyOfRange(words, 1, words.length));
            tool.flush();
            byte[] text = written.toByteArray();
            answers.println(code + " " + text.length);
            answers.write(text, 0, text.length);
            answers.flush();
        }
    }

    static int run(String name, String[] args) {
        ended = null;
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (Throwable thrown) {
            if (ended == null) {
                thrown.printStackTrace(System.out);
                return 255;
            }
        }
        return ended == null ? 0 : ended;
    }
}
